package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

func (n *node) status() *etcdapi.StatusResponse {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
	defer cancel()
	answer, err := n.admin().Status(ctx, &etcdapi.StatusRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}

func (n *node) snapshots() *etcdapi.SnapshotsResponse {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
	defer cancel()
	answer, err := n.admin().Snapshots(ctx, &etcdapi.SnapshotsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}

// fill writes so many MiB.
func (n *node) fill(mebibytes int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 4*deadline)
	defer cancel()
	client := n.client()
	value := strings.Repeat("x", 1<<20)
	for i := range mebibytes {
		if _, err := client.Put(ctx, fmt.Sprint("churn/", i), value); err != nil {
			n.t.Fatal(err)
		}
	}
}

// churn fills the database, deletes that, and lets the history go: it keeps its
// size, and holds next to nothing.
func (n *node) churn(mebibytes int) {
	n.t.Helper()
	n.fill(mebibytes)
	ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
	defer cancel()
	client := n.client()
	gone, err := client.Delete(ctx, "churn/", clientv3.WithPrefix())
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := client.Compact(ctx, gone.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		n.t.Fatal(err)
	}
}

// defragmented lists who was, in time's order, as the leaders remember it.
func (c *cluster) defragmented() []string {
	var events []*etcdapi.Event
	for _, each := range c.nodes {
		events = append(events, each.status().GetEvents()...)
	}
	slices.SortFunc(events, func(a, b *etcdapi.Event) int { return a.GetTime().AsTime().Compare(b.GetTime().AsTime()) })
	var names []string
	for _, event := range events {
		if who, _, did := strings.Cut(event.GetMessage(), " was defragmented:"); did {
			names = append(names, who)
		}
	}
	return names
}

func (c *cluster) whoLeads() *node {
	c.t.Helper()
	for _, each := range c.nodes {
		if each.status().GetLeader() {
			return each
		}
	}
	c.t.Fatal("nobody leads")
	return nil
}

func TestMembersAreDefragmentedTheLeaderLast(t *testing.T) {
	c := newCluster(t)
	for i := range 2 {
		c.node(fmt.Sprintf("node-%d", i+1)).flags = []string{"--defragment-interval=1s"}
	}
	if err := c.nodes[0].service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, each := range c.nodes {
		each.join()
	}
	leader := c.whoLeads()
	leader.churn(80)
	client := leader.client()
	leader.eventually("all databases shrink", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		// etcd counts what is free when it writes.
		if _, err := client.Put(ctx, "life", "goes on"); err != nil {
			return err
		}
		for _, each := range c.nodes {
			if size := each.status().GetDbSize(); size > 40<<20 {
				return fmt.Errorf("%s has %d MiB", each.options.Hostname, size>>20)
			}
		}
		return nil
	})
	leader.eventually("both are told", func() error {
		if names := c.defragmented(); len(names) < 2 {
			return fmt.Errorf("told are %v", names)
		}
		return nil
	})
	names := c.defragmented()
	if len(names) != 2 || names[1] != leader.options.Hostname {
		t.Errorf("defragmented were %v, and %s led", names, leader.options.Hostname)
	}
}

func TestMemberMakesSnapshotsAndTheLeaderSendsThem(t *testing.T) {
	server := startS3(t)
	n := newNode(t)
	n.options.Config.Snapshots.Interval = time.Second
	n.options.Config.Snapshots.Keep = 2
	n.options.Config.Snapshots.S3.Endpoint, n.options.Config.Snapshots.S3.Bucket = server.config.Endpoint, server.config.Bucket
	n.options.Config.Snapshots.S3.CA = server.config.CA
	n.options.StoreKeys.AccessKeyID, n.options.StoreKeys.SecretAccessKey = server.config.AccessKeyID, "wrong"
	n.reboot()
	if err := n.service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.join()
	n.put("greeting", "hello")
	n.eventually("the store's refusal is told", func() error {
		for _, problem := range n.status().GetProblems() {
			if strings.Contains(problem, "secrets.snapshotStore") && strings.Contains(n.snapshots().GetProblem(), problem) {
				return nil
			}
		}
		return fmt.Errorf("told are %q", n.status().GetProblems())
	})
	n.kill()

	n.options.StoreKeys.SecretAccessKey = machineconfig.Secret(server.config.SecretAccessKey)
	n.reboot()
	n.join()
	n.eventually("more snapshots than are kept were made, and the newest stored", func() error {
		answer := n.snapshots()
		kept := answer.GetSnapshots()
		if len(kept) < 2 || len(kept) > 3 || !kept[len(kept)-1].GetStored() || answer.GetProblem() != "" {
			return fmt.Errorf("kept are %v", answer)
		}
		for _, one := range kept {
			if !one.GetIntact() {
				return fmt.Errorf("damaged: %v", one)
			}
		}
		return nil
	})
	n.eventually("the store holds the newest ones", func() error {
		found, err := filepath.Glob(filepath.Join(server.folder, "backups", n.options.ClusterID, "*.db"))
		if err != nil || len(found) == 0 || len(found) > 3 {
			return cmp.Or(err, fmt.Errorf("the store holds %v", found))
		}
		return nil
	})
	n.eventually("the newest kept one is fetched, and is whole", func() error {
		name := n.snapshots().GetSnapshots()[0].GetName()
		content, err := n.fetch(name) // it may be one too many by now
		if err == nil {
			_, err = snapshot.Check(bytes.NewReader(content), int64(len(content)))
		}
		return err
	})
	for _, name := range []string{"20200102T150405Z-r1.db", "../data/member/snap/db", "/etc/passwd", "store.json"} {
		if _, err := n.fetch(name); status.Code(err) != codes.NotFound {
			t.Errorf("snapshot %q: %v", name, err)
		}
	}
	left, err := os.ReadDir(n.options.SnapshotsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if info, err := entry.Info(); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", entry.Name(), info.Mode())
		}
	}
}

// fetch streams a snapshot, kept or made now, as a file.
func (n *node) fetch(name string) ([]byte, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
	defer cancel()
	stream, err := n.admin().Snapshot(ctx, &etcdapi.SnapshotRequest{Name: name})
	if err != nil {
		return nil, err
	}
	var content []byte
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		content = append(content, message.GetChunk()...)
	}
}

// A database of which a snapshot is read is not rewritten: that would wait for
// the reader, and everything else for it.
func TestNoDefragmentationWhileASnapshotIsRead(t *testing.T) {
	n := newNode(t)
	if err := n.service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.join()
	n.fill(32)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := n.admin().Snapshot(ctx, &etcdapi.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // and no more: the rest stays unread
		t.Fatal(err)
	}
	if _, err := n.admin().Defragment(t.Context(), &etcdapi.DefragmentRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("asked by its own API: %v", err)
	}
	within, stop := context.WithTimeout(t.Context(), deadline)
	defer stop()
	if _, err := n.client().Defragment(within, "https://"+n.address()); err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("asked by another member: %v", err)
	}
	n.put("greeting", "hello")
	cancel()
	n.eventually("the database is defragmented", func() error {
		_, err := n.admin().Defragment(t.Context(), &etcdapi.DefragmentRequest{})
		return err
	})
}
