package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/machined/etcd/mark"
)

// Between two attempts to join; half of it is left to chance, so that nodes
// which start together do not stay in step.
const (
	joinRetryFirst = 500 * time.Millisecond
	joinRetryLast  = 5 * time.Second
)

// joiner makes this node a member of a cluster that there is.
type joiner struct {
	*admin
	peers *peers
	urls  []string // of members, for clients
	began bool     // see joinView
	// silentSince is when the member of our name was first found silent.
	silentSince time.Time
}

// join adds this node to the members and returns their list as etcd takes it.
// It tries until ctx ends.
func (a *admin) join(ctx context.Context, urls []string) (cluster string, err error) {
	_, began, err := mark.Get(filepath.Split(a.flags.joining))
	if err != nil {
		return "", err
	}
	j := &joiner{admin: a, peers: a.newPeers(), urls: urls, began: began}
	said := ""
	next := joinRetryFirst
	for {
		cluster, err := j.attempt(ctx)
		if err == nil {
			return cluster, nil
		}
		if why := err.Error(); why != said {
			said, next = why, joinRetryFirst
			a.tell("this node is no member yet: " + why)
			a.log.Warn("cannot join yet, and tries on", zap.String("why", why))
		}
		if !pause(ctx, next/2+rand.N(next)) {
			return "", ctx.Err()
		}
		next = min(2*next, joinRetryLast)
	}
}

// joinURLs reads whom to join; there may be nobody.
func (f *flags) joinURLs() ([]string, error) {
	if f.joinFrom == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.joinFrom)
	if err != nil {
		return nil, fmt.Errorf("read whom to join: %w", err)
	}
	urls := strings.Fields(string(text))
	if len(urls) == 0 {
		return nil, nil
	}
	if _, err := parseURLs(strings.Join(urls, ",")); err != nil {
		return nil, fmt.Errorf("read whom to join in %s: %w", f.joinFrom, err)
	}
	return urls, nil
}

// attempt makes one change, or says why not yet.
func (j *joiner) attempt(ctx context.Context) (cluster string, err error) {
	good, bad := j.peers.answering(ctx, j.urls)
	if len(good) == 0 {
		return "", fmt.Errorf("no etcd to join: %s", strings.Join(bad, "; "))
	}
	id, leader, err := j.peers.oneCluster(ctx, good)
	if err != nil {
		return "", err
	}
	if leader != "" {
		good = []string{leader} // who is told of an addition looks after it at once
	}
	client, err := j.dial(good)
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*changeTime)
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		return "", fmt.Errorf("the cluster answers (%s), but has no quorum: %s", strings.Join(good, ", "), told(err))
	}
	step := decideJoin(j.view(ctx, types.ID(id), list.Members))
	switch {
	case step.refuse != "":
		return "", errors.New(step.refuse)
	case step.wait != "":
		return "", errors.New(step.wait)
	case step.reuse != nil:
		j.log.Info("goes on as the member that was added before a restart")
		return initialCluster(j.flags.name, step.reuse.ID, list.Members), nil
	case step.remove != nil:
		if _, err := client.MemberRemove(ctx, step.remove.ID); err != nil {
			return "", fmt.Errorf("remove this node's old member: %s", told(err))
		}
		return "", errors.New("this node's old member was removed, since its disk is empty; it joins as a new one")
	}
	return j.add(ctx, client)
}

// view is what the decision is made on.
func (j *joiner) view(ctx context.Context, cluster types.ID, members []*etcdserverpb.Member) joinView {
	v := joinView{name: j.flags.name, peerURL: j.flags.peer, members: members, began: j.began}
	namesakeSilent := false
	for _, each := range members {
		ours := slices.Contains(each.PeerURLs, j.flags.peer)
		if !ours && each.Name != j.flags.name {
			continue
		}
		answers := j.prober.ask(ctx, cluster, each.PeerURLs) == nil
		switch {
		case ours:
			v.taken = answers
		case answers:
			v.silentFor = -1
		default:
			namesakeSilent = true
		}
	}
	switch {
	case !namesakeSilent:
		j.silentSince = time.Time{}
	case j.silentSince.IsZero():
		j.silentSince = time.Now()
	default:
		v.silentFor = time.Since(j.silentSince)
	}
	return v
}

// add adds this node as a learner. The mark is on disk before: should the power
// fail in between, this node knows that the member is its own and that no
// process ever ran as it.
func (j *joiner) add(ctx context.Context, client *clientv3.Client) (string, error) {
	dir, name := filepath.Split(j.flags.joining)
	if err := mark.Set(dir, name, ""); err != nil {
		return "", err
	}
	j.began = true // also when the answer is lost
	added, err := client.MemberAddAsLearner(ctx, []string{j.flags.peer})
	if err != nil {
		return "", fmt.Errorf("add this node: %s", told(err))
	}
	j.log.Info("was added as a learner", zap.String("id", types.ID(added.Member.ID).String()))
	return initialCluster(j.flags.name, added.Member.ID, added.Members), nil
}

// told is an error of a call as people read it.
func told(err error) string { return status.Convert(err).Message() }
