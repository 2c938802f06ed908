package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// silence is how long a member that has our name must not answer at its own
// addresses before it is taken for this node's, lost with its disk.
const silence = 30 * time.Second

// joinView is what there is to know when this node wants to become a member.
type joinView struct {
	name, peerURL string
	members       []*etcdserverpb.Member
	// began says that this node asked to be added before, and has not run a
	// member since: one that never started may be it.
	began bool
	// silentFor is how long the member of our name has not answered; a negative
	// value is that it does.
	silentFor time.Duration
	// taken says that a member answers at our own peer URL.
	taken bool
}

// joinStep is what to do next. Exactly one of the fields is set, but for add,
// which has none.
type joinStep struct {
	// reuse: it is we who were added, before a power cut.
	reuse *etcdserverpb.Member
	// remove this member of ours, which lost its disk; then look again.
	remove *etcdserverpb.Member
	// wait and look again: the reason.
	wait string
	// refuse until a person did something: what.
	refuse string
}

// decideJoin decides the next step. A member is ours by its peer URL, which
// cannot be another's while we listen on it, or by its name, which can.
func decideJoin(v joinView) joinStep {
	ours := v.find(func(m *etcdserverpb.Member) bool { return slices.Contains(m.PeerURLs, v.peerURL) })
	namesake := v.find(func(m *etcdserverpb.Member) bool { return m.Name == v.name })
	if ours == namesake {
		namesake = nil
	}
	other := v.find(func(m *etcdserverpb.Member) bool { return m.IsLearner && m != ours && m != namesake })
	switch {
	case ours != nil && v.taken:
		return joinStep{refuse: fmt.Sprintf("%s answers at %s, this node's own address: two nodes have one IP address", memberName(ours), v.peerURL)}
	case namesake != nil && v.silentFor < 0:
		return joinStep{refuse: fmt.Sprintf("another node is named %s, too: the member at %s, which answers; give one of the two another machine.hostname",
			v.name, strings.Join(namesake.PeerURLs, ", "))}
	case ours != nil && ours.IsLearner && ours.Name == "" && v.began:
		return joinStep{reuse: ours}
	case other != nil:
		return joinStep{wait: fmt.Sprintf("%s is being added; members are added one at a time", memberName(other))}
	case ours != nil:
		return joinStep{remove: ours}
	case namesake != nil && v.silentFor < silence:
		return joinStep{wait: fmt.Sprintf("the member at %s has this node's name: it is replaced if it does not answer for %s",
			strings.Join(namesake.PeerURLs, ", "), silence)}
	case namesake != nil:
		return joinStep{remove: namesake}
	}
	return joinStep{}
}

func (v joinView) find(match func(*etcdserverpb.Member) bool) *etcdserverpb.Member {
	if i := slices.IndexFunc(v.members, match); i >= 0 {
		return v.members[i]
	}
	return nil
}

// memberName is what people call a member.
func memberName(m *etcdserverpb.Member) string {
	if m.Name != "" {
		return m.Name
	}
	return fmt.Sprintf("the member at %s", strings.Join(m.PeerURLs, ", "))
}

// initialCluster is the list of members as etcd takes it. Those that have not
// started yet have no name: theirs is made up, and nobody reads it.
func initialCluster(name string, self uint64, members []*etcdserverpb.Member) string {
	var list []string
	for _, each := range members {
		known := each.Name
		switch {
		case each.ID == self:
			known = name
		case known == "":
			known = fmt.Sprintf("member-%x", each.ID)
		}
		for _, url := range each.PeerURLs {
			list = append(list, known+"="+url)
		}
	}
	return strings.Join(list, ",")
}
