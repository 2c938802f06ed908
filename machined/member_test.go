package main

import (
	"strings"
	"testing"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

func TestWhoMayLeaveEtcd(t *testing.T) {
	voter := func(id string, reachable bool) *etcdapi.Member { return &etcdapi.Member{Id: id, Reachable: reachable} }
	learner := func(id string) *etcdapi.Member { return &etcdapi.Member{Id: id, Reachable: true, Learner: true} }
	for name, c := range map[string]struct {
		members []*etcdapi.Member
		want    string
	}{
		"one of three":             {[]*etcdapi.Member{voter("a", true), voter("b", true), voter("c", true)}, ""},
		"one of two":               {[]*etcdapi.Member{voter("a", true), voter("b", true)}, ""},
		"the only one":             {[]*etcdapi.Member{voter("a", true)}, "the only copy"},
		"the only voter":           {[]*etcdapi.Member{voter("a", true), learner("b")}, "the only copy"},
		"one of three, one gone":   {[]*etcdapi.Member{voter("a", true), voter("b", true), voter("c", false)}, "1 of 2 etcd members would answer and 2 must"},
		"one of five, one gone":    {[]*etcdapi.Member{voter("a", true), voter("b", true), voter("c", true), voter("d", true), voter("e", false)}, ""},
		"a learner among the dead": {[]*etcdapi.Member{learner("a"), voter("b", false), voter("c", false)}, ""},
		"removed before":           {[]*etcdapi.Member{voter("b", true), voter("c", true)}, ""},
	} {
		got := refuseLeaving(memberState{self: "a", members: c.members})
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got != "" && !strings.Contains(got, "osctl reset --force") {
			t.Errorf("%s: says not what to do: %q", name, got)
		}
	}
}
