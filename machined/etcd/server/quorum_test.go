package main

import (
	"strings"
	"testing"
)

// present makes members from a picture: "+a" answers, "-b" does not, a capital
// letter is a learner; the first one is this process's own.
func present(picture string) []presence {
	var list []presence
	for i, each := range strings.Fields(picture) {
		list = append(list, presence{
			id: uint64(i + 1), name: strings.ToLower(each[1:]), answers: each[0] == '+',
			learner: each[1:] != strings.ToLower(each[1:]), self: i == 0,
		})
	}
	return list
}

func TestNoQuorumSaysWhoAnswersAndWhatToDo(t *testing.T) {
	for picture, want := range map[string]string{
		"+a":             "",
		"+a +b -c":       "",
		"+a -B":          "",
		"+a +b +c -d -e": "",
		"+a -b":          "1 of 2 members answers (a); bring b back, or take a snapshot here (osctl -N a etcd snapshot FILE)",
		"+a -b -c":       "1 of 3 members answers (a); bring b or c back",
		"+a -b -c +D":    "1 of 3 members answers (a); bring b or c back",
		"+a +b -c -d":    "2 of 4 members answer (a, b); bring c or d back",
		"+a -b -c -d -e": "1 of 5 members answers (a); bring 2 of b, c, d, e back",
	} {
		got := noQuorum(present(picture))
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", picture, got, want)
		}
	}
	whole := "etcd has no quorum: 1 of 3 members answers (ha-1); bring ha-2 or ha-3 back, or take a snapshot here (osctl -N ha-1 etcd snapshot FILE), " +
		"reset the control-plane nodes (osctl reset --force) and run osctl bootstrap --recover-from FILE on one"
	if got := noQuorum(present("+ha-1 -ha-2 -ha-3")); got != whole {
		t.Errorf("got\n%s\nwant\n%s", got, whole)
	}
}

func TestRefuseRemoval(t *testing.T) {
	for _, c := range []struct {
		picture string
		id      uint64
		force   bool
		want    string
	}{
		{"+a +b +c", 3, false, ""},
		{"+a +b -c", 3, false, ""},
		{"+a +b", 2, false, ""},
		{"+a -B", 2, false, ""},
		{"+a +b -c -D", 4, false, ""},
		{"+a +b -c", 2, false, "without b, 1 of 2 members would answer (a) and 2 must: bring c back or remove it first"},
		{"+a +b -c", 1, false, "without a, 1 of 2"},
		{"+a +b -c", 2, true, ""},
		{"+a +b +c -d -e", 1, false, "without a, 2 of 4 members would answer (b, c) and 3 must: bring d or e back or remove them first"},
		{"+a -b", 1, false, "without a, 0 of 1 members would answer (none) and 1 must: bring b back or remove it first"},
		{"+a", 1, false, "only voting member"},
		{"+a", 1, true, "only voting member"},
		{"+a +B", 1, true, "only voting member"},
	} {
		got := refuseRemoval(present(c.picture), c.id, c.force)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s without %d, force %t: %q, want %q", c.picture, c.id, c.force, got, c.want)
		}
	}
}
