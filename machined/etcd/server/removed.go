package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"github.com/keelson-os/keelson/machined/etcd/mark"
)

// ownLook is how often a learner looks whether it votes by now.
const ownLook = time.Second

// awaitVote clears the mark of a member that is joining once it votes: from
// then on its data counts, and is never thrown away.
func (a *admin) awaitVote(ctx context.Context, m *member) error {
	for m.isLearner() {
		if !pause(ctx, ownLook) {
			return nil
		}
	}
	return a.flags.votes()
}

// votes notes that this member is no longer joining.
func (f *flags) votes() error {
	dir, name := filepath.Split(f.joining)
	return mark.Clear(dir, name)
}

// stopped follows the end of a server that was not asked to stop. Most often
// its member was removed: then it stays out, unless it never had a vote.
func (a *admin) stopped(ctx context.Context, why error) error {
	m := a.running.Load()
	_, joining, err := mark.Get(filepath.Split(a.flags.joining))
	if err != nil {
		return err
	}
	// A member that was down meanwhile has not seen its removal.
	removed := m.Server.IsIDRemoved(uint64(m.Server.MemberID()))
	word := ""
	if joining || !removed {
		unknown := false
		if unknown, word = a.askOthers(ctx, m); !unknown && !removed {
			return why
		}
	}
	if joining {
		return a.tryAgain(ctx, word)
	}
	dir, name := filepath.Split(a.flags.removed)
	if err := mark.Set(dir, name, ""); err != nil {
		return err
	}
	return errRemoved
}

var errRemoved = errors.New("this node's member was removed from the cluster; osctl reset makes it join anew")

// tryAgain clears the ground for another attempt of a node that was removed
// before it could vote. Others have their turn first.
func (a *admin) tryAgain(ctx context.Context, word string) error {
	if word == "" {
		word = "it was removed before it was promoted"
	}
	message := fmt.Sprintf("this node was taken out of the cluster again: %s; it tries again in %s", word, a.flags.rejoinAfter)
	a.log.Warn(message)
	a.tell(message)
	a.running.Store(nil) // it answers as nobody's member meanwhile
	if !pause(ctx, a.flags.rejoinAfter) {
		return nil
	}
	// It acknowledged nothing to anyone: its data is of no use.
	if err := os.RemoveAll(filepath.Join(a.flags.dataDir, memberDir)); err != nil {
		return fmt.Errorf("clear the data of a member that was removed: %w", err)
	}
	return errors.New(message)
}

// askOthers asks the cluster whether it does not know this member, and for the
// word that was left for it.
func (a *admin) askOthers(ctx context.Context, m *member) (unknown bool, word string) {
	urls, err := a.flags.joinURLs()
	if err != nil {
		a.log.Warn("the config's members are not known", zap.Error(err))
	}
	self := m.Server.MemberID()
	for _, each := range m.Server.Cluster().Members() {
		if each.ID != self {
			urls = append(urls, each.ClientURLs...)
		}
	}
	if len(urls) == 0 {
		return false, ""
	}
	client, err := a.dial(urls)
	if err != nil {
		return false, ""
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	// This read needs a quorum: a member that lags behind may not know us yet.
	list, err := client.MemberList(ctx)
	if err != nil {
		a.log.Warn("cannot ask the others whether this member was removed", zap.Error(err))
		return false, ""
	}
	if list.Header.ClusterId != uint64(m.Server.Cluster().ID()) {
		return false, ""
	}
	unknown = !slices.ContainsFunc(list.Members, func(each *etcdserverpb.Member) bool { return each.ID == uint64(self) })
	if word, err = findWord(ctx, client, a.flags.peer); err != nil {
		a.log.Warn("cannot ask the others why this member was removed", zap.Error(err))
	}
	return unknown, word
}
