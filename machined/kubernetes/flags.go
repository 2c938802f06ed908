package kubernetes

import (
	"maps"
	"slices"
)

// flags are a program's flags without their dashes, and their values.
type flags map[string]string

// args renders the flags in the order of their names. Those of extra, from the
// machine's config, take the place of ours or are added.
func (f flags) args(extra map[string]string) []string {
	all := maps.Clone(f)
	maps.Copy(all, extra)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "--"+name+"="+all[name])
	}
	return args
}

// leaderElection is how a controller becomes the one that acts. It is on even
// where there is one control-plane node, so that a second can join without a
// moment in which both act. The periods are four times upstream's: every
// renewal is a write to etcd, synced to disk, for ever; the price is up to a
// minute without controllers when the node of the active one dies. A restart on
// the same node does not pay it: see releaseLease.
var leaderElection = flags{
	"leader-elect-lease-duration": "60s",
	"leader-elect-renew-deadline": "40s",
	"leader-elect-retry-period":   "10s",
}

// merged puts sets of flags together; later ones win.
func merged(sets ...flags) flags {
	all := flags{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}
