package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"github.com/keelson-os/keelson/machined/etcd"
	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// snapshot takes one from the node.
func (n *node) snapshot() ([]byte, error) {
	stream, err := n.admin().Snapshot(n.t.Context(), &etcdapi.SnapshotRequest{})
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	var size int64
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if part.GetSize() != 0 {
			size = part.GetSize()
		}
		data.Write(part.GetChunk())
	}
	if size != int64(data.Len()) {
		n.t.Errorf("the snapshot has %d bytes, %d were announced", data.Len(), size)
	}
	return data.Bytes(), nil
}

func TestRecoveryOnFreshNodesWithOtherAddresses(t *testing.T) {
	t.Parallel()
	old := form(t, 1)
	old.nodes[0].put("greeting", "hello")
	before, err := old.nodes[0].client().Get(t.Context(), "greeting")
	if err != nil {
		t.Fatal(err)
	}
	data, err := old.nodes[0].snapshot()
	if err != nil {
		t.Fatal(err)
	}
	old.nodes[0].put("greeting", "too late")

	fresh := &cluster{t: t, ca: old.ca, id: old.id} // the config of before, other addresses
	first, second := fresh.node("node-1"), fresh.node("node-2")
	revision, keys, err := first.service.Recover(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if revision != before.Header.Revision || keys != 1 {
		t.Errorf("revision %d with %d keys, want %d with 1", revision, keys, before.Header.Revision)
	}
	if _, _, err := first.service.Recover(t.Context(), bytes.NewReader(data)); !errors.Is(err, etcd.ErrPending) {
		t.Errorf("a second recovery: %v", err)
	}
	// The power fails in the middle of it.
	first.start()
	first.eventually("it makes a log", first.hasLog)
	first.kill()
	first.reboot()
	first.join()
	first.holds("greeting", "hello")
	after, err := first.client().Get(t.Context(), "greeting")
	if err != nil {
		t.Fatal(err)
	}
	if after.Header.Revision <= before.Header.Revision+revisionBump/2 {
		t.Errorf("the revision went from %d to %d: who watched will not notice", before.Header.Revision, after.Header.Revision)
	}
	if after.Header.ClusterId == before.Header.ClusterId {
		t.Error("the cluster has the ID of the old one, of which members may come back")
	}
	if left, _ := filepath.Glob(filepath.Join(first.options.DataDir, "recover*")); left != nil {
		t.Errorf("left are %v", left)
	}

	second.join()
	second.holds("greeting", "hello")
	first.hasMembers("node-1 node-2")
	if _, _, err := second.service.Recover(t.Context(), bytes.NewReader(data)); !errors.Is(err, etcd.ErrFormed) {
		t.Errorf("on a node with data: %v", err)
	}
}

// The old cluster's members take those of the recovered one for what they are.
func TestAMemberOfTheOldClusterIsToldToGo(t *testing.T) {
	t.Parallel()
	c := form(t, 2)
	data, err := c.nodes[0].snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range c.nodes {
		each.kill()
	}
	again := c.nodes[0]
	if err := os.RemoveAll(again.options.DataDir); err != nil {
		t.Fatal(err)
	}
	again.reboot()
	if _, _, err := again.service.Recover(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	again.join()
	c.nodes[1].start()
	c.nodes[1].says("it serves another etcd cluster")
	again.hasMembers("node-1")
}

func TestABadSnapshotChangesNothing(t *testing.T) {
	t.Parallel()
	source := form(t, 1).nodes[0]
	source.put("greeting", "hello")
	good, err := source.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(good)
	altered[len(altered)/2] ^= 1
	page := bytes.Repeat([]byte{0}, 4096)
	copy(page[16:], []byte{0xED, 0xDA, 0x0C, 0xED})
	broken := errors.New("the connection broke")
	for name, c := range map[string]struct {
		data io.Reader
		want string
	}{
		"truncated":             {bytes.NewReader(good[:len(good)-8192]), "altered or truncated"},
		"without its checksum":  {bytes.NewReader(good[:len(good)-32]), "truncated: the snapshot does not end with its checksum"},
		"altered":               {bytes.NewReader(altered), "altered or truncated"},
		"no snapshot":           {strings.NewReader("hello"), "no snapshot of etcd"},
		"no database":           {bytes.NewReader(withSum(page)), "no snapshot of etcd"},
		"an older version":      {bytes.NewReader(ofVersion(t, good, "3.5.0")), "the snapshot is of etcd 3.5, this node runs 3.7."},
		"a newer version":       {bytes.NewReader(ofVersion(t, good, "3.8.0")), "the snapshot is of etcd 3.8, this node runs 3.7."},
		"empty":                 {bytes.NewReader(nil), "no snapshot of etcd"},
		"cut off on the way":    {io.MultiReader(bytes.NewReader(good[:5000]), iotestErr{broken}), broken.Error()},
		"another kind of bbolt": {bytes.NewReader(withSum(emptyDatabase(t))), "no snapshot of etcd"},
	} {
		n := newCluster(t).node("node-1")
		_, _, err := n.service.Recover(t.Context(), c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
			continue
		}
		if its := errors.Is(err, etcd.ErrSnapshot); its == (name == "cut off on the way") {
			t.Errorf("%s: taken for the snapshot's fault: %t", name, its)
		}
		if left, _ := os.ReadDir(n.options.DataDir); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.service.Spec().Gate(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the gate answered %v", name, err)
		}
	}
}

// iotestErr is a reader that fails.
type iotestErr struct{ error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.error }

// withSum makes a database a snapshot.
func withSum(database []byte) []byte {
	sum := sha256.Sum256(database)
	return append(bytes.Clone(database), sum[:]...)
}

// ofVersion writes another version into a snapshot.
func ofVersion(t *testing.T, snapshot []byte, version string) []byte {
	t.Helper()
	return withSum(edited(t, snapshot[:len(snapshot)-sha256.Size], func(tx *bolt.Tx) error {
		return tx.Bucket(schema.Meta.Name()).Put(schema.MetaStorageVersionName, []byte(version))
	}))
}

func emptyDatabase(t *testing.T) []byte {
	t.Helper()
	return edited(t, nil, func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("others"))
		return err
	})
}

func edited(t *testing.T, database []byte, edit func(*bolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, database, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(edit), db.Close()); err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}
