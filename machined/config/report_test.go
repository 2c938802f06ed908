package config

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
)

func TestReportInstalled(t *testing.T) {
	refused := answer{err: errors.New("connection refused")}
	root := fstest.MapFS{"sys/class/dmi/id/product_uuid": {Data: []byte("6E5C-01\n")}}
	for name, test := range map[string]struct {
		url     string
		answers []answer
		asked   int
		want    string
	}{
		"told":               {"http://10.0.0.1/installed/${uuid}", []answer{{code: http.StatusNoContent}}, 1, ""},
		"told later":         {"http://10.0.0.1/installed/${uuid}", []answer{refused, {code: http.StatusOK}}, 2, ""},
		"no server":          {"http://10.0.0.1/?token=secret", []answer{refused}, reportTries, "connection refused"},
		"refused":            {"http://10.0.0.1/", []answer{{code: http.StatusForbidden}}, reportTries, "403"},
		"no URL":             {"10.0.0.1", nil, 0, "keelson.installed on the kernel command line: expected http://"},
		"an unknown machine": {"http://10.0.0.1/${serial}", nil, 0, "does not tell what ${serial} is"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &answers{list: test.answers}
				err := ReportInstalled(t.Context(), options(root, test.url, server))
				if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret")) {
					t.Errorf("%v, want %q", err, test.want)
				}
				if len(server.asked) != test.asked {
					t.Errorf("asked %q", server.asked)
				}
				for i, asked := range server.asked {
					if server.methods[i] != http.MethodPost {
						t.Errorf("asked by %s", server.methods[i])
					}
					if strings.Contains(test.url, "${uuid}") && asked != "http://10.0.0.1/installed/6E5C-01" {
						t.Errorf("asked %q", asked)
					}
				}
			})
		})
	}
}
