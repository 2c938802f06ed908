package main

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestDecideJoin(t *testing.T) {
	const url = "https://10.0.0.7:2380"
	voter := func(id uint64, name, url string) *etcdserverpb.Member {
		return &etcdserverpb.Member{ID: id, Name: name, PeerURLs: []string{url}}
	}
	learner := func(id uint64, name, url string) *etcdserverpb.Member {
		return &etcdserverpb.Member{ID: id, Name: name, PeerURLs: []string{url}, IsLearner: true}
	}
	a, b := voter(1, "a", "https://10.0.0.5:2380"), voter(2, "b", "https://10.0.0.6:2380")
	for what, c := range map[string]struct {
		members   []*etcdserverpb.Member
		began     bool
		silentFor time.Duration
		want      string
	}{
		"a new node":                           {[]*etcdserverpb.Member{a, b}, false, 0, "add"},
		"asked before, and was not added":      {[]*etcdserverpb.Member{a, b}, true, 0, "add"},
		"a power cut after it was added":       {[]*etcdserverpb.Member{a, b, learner(3, "", url)}, true, 0, "reuse 3"},
		"added, and then the disk was lost":    {[]*etcdserverpb.Member{a, b, learner(3, "", url)}, false, 0, "remove 3"},
		"a learner that lost its disk":         {[]*etcdserverpb.Member{a, b, learner(3, "c", url)}, true, 0, "remove 3"},
		"a voter that lost its disk":           {[]*etcdserverpb.Member{a, b, voter(3, "c", url)}, false, 0, "remove 3"},
		"the address was another node's":       {[]*etcdserverpb.Member{a, b, voter(3, "d", url)}, false, 0, "remove 3"},
		"another one is being added":           {[]*etcdserverpb.Member{a, learner(2, "b", "https://10.0.0.6:2380")}, false, 0, "wait: b is being added"},
		"another one was added, not started":   {[]*etcdserverpb.Member{a, learner(2, "", "https://10.0.0.6:2380")}, false, 0, "wait: the member at https://10.0.0.6:2380 is being added"},
		"replaced after another one":           {[]*etcdserverpb.Member{a, learner(2, "b", "https://10.0.0.6:2380"), voter(3, "c", url)}, false, 0, "wait: b is being added"},
		"two nodes at one address":             {[]*etcdserverpb.Member{a, b, voter(3, "d", url)}, false, 0, "refuse: d answers at https://10.0.0.7:2380, this node's own address"},
		"two nodes of one name":                {[]*etcdserverpb.Member{a, b, voter(3, "c", "https://10.0.0.8:2380")}, false, -1, "refuse: another node is named c, too: the member at https://10.0.0.8:2380"},
		"two of one name, one a learner":       {[]*etcdserverpb.Member{a, b, learner(3, "c", "https://10.0.0.8:2380")}, false, -1, "refuse: another node is named c"},
		"our name at an address that is gone":  {[]*etcdserverpb.Member{a, b, voter(3, "c", "https://10.0.0.8:2380")}, false, silence, "remove 3"},
		"our name at one that may come back":   {[]*etcdserverpb.Member{a, b, voter(3, "c", "https://10.0.0.8:2380")}, false, time.Second, "wait: the member at https://10.0.0.8:2380 has this node's name"},
		"our address and our name, two others": {[]*etcdserverpb.Member{a, voter(2, "b", url), voter(3, "c", "https://10.0.0.8:2380")}, false, -1, "refuse: another node"},
	} {
		taken := strings.Contains(what, "one address")
		step := decideJoin(joinView{name: "c", peerURL: url, members: c.members, began: c.began, silentFor: c.silentFor, taken: taken})
		got := "add"
		switch {
		case step.reuse != nil:
			got = "reuse " + string(rune('0'+step.reuse.ID))
		case step.remove != nil:
			got = "remove " + string(rune('0'+step.remove.ID))
		case step.wait != "":
			got = "wait: " + step.wait
		case step.refuse != "":
			got = "refuse: " + step.refuse
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

func TestInitialCluster(t *testing.T) {
	members := []*etcdserverpb.Member{
		{ID: 1, Name: "a", PeerURLs: []string{"https://10.0.0.5:2380", "https://[fd00::5]:2380"}},
		{ID: 0xab, PeerURLs: []string{"https://10.0.0.6:2380"}},
		{ID: 3, PeerURLs: []string{"https://10.0.0.7:2380"}},
	}
	want := "a=https://10.0.0.5:2380,a=https://[fd00::5]:2380,member-ab=https://10.0.0.6:2380,c=https://10.0.0.7:2380"
	if got := initialCluster("c", 3, members); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
