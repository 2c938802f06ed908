package main

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	// worthwhile is how much a database must hold for nothing, in bytes, before
	// it is rewritten.
	worthwhile = 64 << 20
	// maxBehind is how many entries a member may lack and still count as well.
	maxBehind = 5000
)

// usage is how a member is, as far as defragmentation goes.
type usage struct {
	id          uint64
	name        string
	address     string // of its client listener
	size, inUse int64  // of its database, in bytes
	applied     uint64 // the last entry of the log that it holds
	leads       bool
	learner     bool
	trouble     string // why it is not well
}

// pays tells whether a database is worth rewriting: its member answers nobody
// meanwhile.
func pays(size, inUse int64) bool { return size-inUse > max(worthwhile, size/2) }

// defragmentNext returns the member to defragment, followers first: there is
// one for each of them before the leader's turn comes. It returns none when
// none pays, or, with the reason, when one would and must wait.
func defragmentNext(members []usage) (next usage, found bool, waits string) {
	var worth []usage
	var ahead uint64
	for _, each := range members {
		if pays(each.size, each.inUse) {
			worth = append(worth, each)
		}
		ahead = max(ahead, each.applied)
	}
	if len(worth) == 0 {
		return usage{}, false, ""
	}
	for _, each := range members {
		switch {
		case each.trouble != "":
			return usage{}, false, fmt.Sprintf("%s is not well: %s", each.name, each.trouble)
		case each.learner:
			return usage{}, false, each.name + " does not vote yet"
		case ahead-each.applied > maxBehind:
			return usage{}, false, each.name + " is behind the others"
		}
	}
	slices.SortFunc(worth, func(a, b usage) int {
		if a.leads != b.leads {
			if a.leads {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.name, b.name)
	})
	return worth[0], true, ""
}
