package identity

import (
	"slices"
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	for _, c := range []struct{ roles, want []string }{
		{nil, nil},
		{[]string{EtcdBackup, "system:masters", "keelson:admin"}, nil},
		{[]string{Reader}, []string{"keelson:reader"}},
		{[]string{Reader, EtcdBackup, Admin}, []string{"keelson:admin", "keelson:reader"}},
	} {
		if got := Groups(c.roles); !slices.Equal(got, c.want) {
			t.Errorf("%q: groups %q, want %q", c.roles, got, c.want)
		}
	}
}

func TestCheckUser(t *testing.T) {
	for name, says := range map[string]string{
		"ada":                            "",
		"ada lovelace@example.org":       "",
		"":                               "empty",
		"josé":                           "printable ASCII",
		"a\nb":                           "printable ASCII",
		"system:kube-controller-manager": "begins with system:",
		" system:admin":                  "space",
		"ada ":                           "space",
		APID:                             "begins with keelson:",
		"keelson:kube-apiserver":         "begins with keelson:",
	} {
		err := CheckUser(name)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v, want an error with %q", name, err, says)
		}
	}
}
