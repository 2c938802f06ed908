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
	dir, name := filepath.Split(a.flags.joining)
	return mark.Clear(dir, name)
}

// stopped follows the end of a server that was not asked to stop. Most often
// its member was removed: then it stays out, unless it never had a vote.
func (a *admin) stopped(ctx context.Context, m *member) error {
	removed, word := a.wasRemoved(ctx, m)
	if !removed {
		return errors.New("the server stopped by itself; its log says why")
	}
	_, joining, err := mark.Get(filepath.Split(a.flags.joining))
	if err != nil {
		return err
	}
	if !joining {
		dir, name := filepath.Split(a.flags.removed)
		if err := mark.Set(dir, name, ""); err != nil {
			return err
		}
		return errors.New("this node's member was removed from the cluster; osctl reset makes it join anew")
	}
	if word == "" {
		word = "it was removed before it was promoted"
	}
	message := fmt.Sprintf("this node was taken out of the cluster again: %s; it tries again in %s", word, a.flags.rejoinAfter)
	a.log.Warn(message)
	a.tell(message)
	// Others have their turn first.
	if !pause(ctx, a.flags.rejoinAfter) {
		return nil
	}
	// It acknowledged nothing to anyone: its data is of no use.
	if err := os.RemoveAll(filepath.Join(a.flags.dataDir, memberDir)); err != nil {
		return fmt.Errorf("clear the data of a member that was removed: %w", err)
	}
	return errors.New(message)
}

// wasRemoved tells whether the cluster has removed this member, and the word
// that was left for it. A member that was down meanwhile has not seen it and
// must ask the others.
func (a *admin) wasRemoved(ctx context.Context, m *member) (removed bool, word string) {
	self := m.Server.MemberID()
	removed = m.Server.IsIDRemoved(uint64(self))
	var urls []string
	for _, each := range m.Server.Cluster().Members() {
		if each.ID != self {
			urls = append(urls, each.ClientURLs...)
		}
	}
	if len(urls) == 0 {
		return removed, ""
	}
	client, err := a.dial(urls)
	if err != nil {
		return removed, ""
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		a.log.Warn("cannot ask the others whether this member was removed", zap.Error(err))
		return removed, ""
	}
	if list.Header.ClusterId == uint64(m.Server.Cluster().ID()) {
		removed = removed || !slices.ContainsFunc(list.Members, func(each *etcdserverpb.Member) bool { return each.ID == uint64(self) })
	}
	if word, err = findWord(ctx, client, a.flags.peer); err != nil {
		a.log.Warn("cannot ask the others why this member was removed", zap.Error(err))
	}
	return removed, word
}
