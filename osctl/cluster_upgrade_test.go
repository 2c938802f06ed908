package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/osbundle"
)

func TestPlanUpgrade(t *testing.T) {
	const new, old = "abc", "def"
	node := func(name, image string) nodeImage {
		return nodeImage{name: name, controlPlane: name[0] == 'c', version: "v1.37.1", rootHash: image, slots: true}
	}
	all := []nodeImage{node("w1", old), node("c1", old), node("w2", old), node("c2", old), node("c3", old), node("w3", old)}
	given := node("w4", old)
	given.slots = false
	for want, test := range map[string]struct {
		nodes   []nodeImage
		workers int
	}{
		"[[c1] [c2] [c3] [w1] [w2] [w3]]": {all, 1},
		"[[c1] [c2] [c3] [w1 w2] [w3]]":   {all, 2},
		"[[c1] [c2] [c3] [w1 w2 w3]]":     {all, 9},
		"[[c2] [w1]]":                     {[]nodeImage{node("c1", new), node("c2", old), node("w1", old), node("w2", new)}, 1},
		"[]":                              {[]nodeImage{node("c1", new), given}, 1},
	} {
		if got := fmt.Sprint(planUpgrade(test.nodes, osbundle.Manifest{Version: "v1.37.2", RootHash: new}, test.workers)); got != want {
			t.Errorf("planned %s, want %s", got, want)
		}
	}
}

func TestPlanOfAnOlderVersionBeginsWithTheWorkers(t *testing.T) {
	nodes := []nodeImage{
		{name: "c1", controlPlane: true, version: "v1.38.0", slots: true}, {name: "w1", version: "v1.38.0", slots: true},
	}
	if got := fmt.Sprint(planUpgrade(nodes, osbundle.Manifest{Version: "v1.37.2", RootHash: "new"}, 1)); got != "[[w1] [c1]]" {
		t.Errorf("planned %s", got)
	}
}

func TestCheckPlan(t *testing.T) {
	node := func(name, version string) nodeImage {
		return nodeImage{name: name, controlPlane: name[0] == 'c', rootHash: version, version: version, architecture: "amd64", slots: true}
	}
	given := func(name, version string) nodeImage {
		n := node(name, version)
		n.slots = false
		return n
	}
	arm := node("w1", "v1.37.1")
	arm.architecture = "arm64"
	for name, test := range map[string]struct {
		nodes     []nodeImage
		downgrade bool
		want      string
	}{
		"all good":                   {[]nodeImage{node("c1", "v1.37.1"), node("w1", "v1.37.1")}, false, ""},
		"a node two minors behind":   {[]nodeImage{node("c1", "v1.37.1"), node("c2", "v1.36.0")}, false, "c2: from v1.36.0 to v1.38.0 is more than one minor"},
		"an older bundle":            {[]nodeImage{node("c1", "v1.39.0")}, false, "c1: the bundle has v1.38.0, which is older"},
		"an older bundle, allowed":   {[]nodeImage{node("c1", "v1.39.0")}, true, ""},
		"another architecture":       {[]nodeImage{node("c1", "v1.37.1"), arm}, false, "w1: the bundle is for amd64"},
		"API server left behind":     {[]nodeImage{given("c1", "v1.37.1"), node("w1", "v1.37.1")}, false, "c1 stays with v1.37.1: the workers' kubelets would be newer"},
		"of the same minor":          {[]nodeImage{given("c1", "v1.38.2"), node("w1", "v1.37.1")}, false, ""},
		"kubelet left far behind":    {[]nodeImage{node("c1", "v1.37.1"), given("w1", "v1.34.0")}, false, "w1 stays with v1.34.0: its kubelet would be more than 3"},
		"kubelet left ahead":         {[]nodeImage{node("c1", "v1.39.0"), given("w1", "v1.39.0")}, true, "w1 stays with v1.39.0: its kubelet would be newer"},
		"kubelet left behind":        {[]nodeImage{node("c1", "v1.37.1"), given("w1", "v1.35.0")}, false, ""},
		"from one major to the next": {[]nodeImage{node("c1", "v0.37.1")}, false, "more than one minor"},
	} {
		t.Run(name, func(t *testing.T) {
			target := osbundle.Manifest{Version: "v1.38.0", Architecture: "amd64", RootHash: "new"}
			err := checkPlan(test.nodes, planUpgrade(test.nodes, target, 1), target, test.downgrade)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestQuorumWithout(t *testing.T) {
	member := func(name string, reachable bool) *etcd.Member { return &etcd.Member{Name: name, Reachable: reachable} }
	learner := &etcd.Member{Name: "c9", Learner: true, Reachable: true}
	for name, test := range map[string]struct {
		members []*etcd.Member
		away    string
		ok      bool
	}{
		"one":                        {[]*etcd.Member{member("c1", true)}, "c1", true},
		"two":                        {[]*etcd.Member{member("c1", true), member("c2", true)}, "c1", true},
		"three":                      {[]*etcd.Member{member("c1", true), member("c2", true), member("c3", true)}, "c2", true},
		"three, another is away":     {[]*etcd.Member{member("c1", true), member("c2", true), member("c3", false)}, "c2", false},
		"three, this one is away":    {[]*etcd.Member{member("c1", true), member("c2", true), member("c3", false)}, "c3", true},
		"a learner does not vote":    {[]*etcd.Member{member("c1", true), member("c2", true), member("c3", false), learner}, "c2", false},
		"three, and a worker leaves": {[]*etcd.Member{member("c1", true), member("c2", true), member("c3", false)}, "w1", true},
	} {
		if err := quorumWithout(test.members, []string{test.away}); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
