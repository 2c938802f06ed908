package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestEtcdSnapshotWritesTheWholeFile(t *testing.T) {
	harness, node := newEtcdHarness(t)
	path := filepath.Join(t.TempDir(), "etcd.db")
	if code := harness.run(t, "etcd", "snapshot", path); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if want := "wrote " + path + ": 2.0 MiB, revision 12345, etcd 3.7.0\n"; harness.out.String() != want {
		t.Errorf("says %q, want %q", harness.out, want)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(content, node.snapshot) {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	harness.fails(t, exitError, []string{"exists already", "--force"}, "etcd", "snapshot", path)
	if code := harness.run(t, "etcd", "snapshot", path, "--force", "-o", "json"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	var got fetched
	if err := json.Unmarshal(harness.out.Bytes(), &got); err != nil || got.Revision != 12345 || len(got.SHA256) != 64 || got.File != path {
		t.Errorf("as JSON %+v, %v", got, err)
	}
}

func TestEtcdSnapshotFetchesAKeptOne(t *testing.T) {
	harness, _ := newEtcdHarness(t)
	path := filepath.Join(t.TempDir(), "etcd.db")
	if code := harness.run(t, "etcd", "snapshot", path, "--kept", "20261120T040000Z-r11000.db"); code != exitOK ||
		harness.out.String() != "wrote "+path+": 2.0 MiB, revision 11000\n" {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
	harness.fails(t, exitError, []string{`no snapshot "none"`}, "etcd", "snapshot", path, "--force", "--kept", "none")
	if code := harness.run(t, "__complete", "etcd", "snapshot", path, "--kept", ""); code != exitOK || !strings.Contains(harness.out.String(), "20261120T100000Z-r12345.db\n") {
		t.Errorf("exit code %d: %s", code, harness.out)
	}
}

func TestEtcdSnapshotKeepsNothingThatIsNotWhole(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*fakeEtcd)
		want   string
	}{
		"cut":      {func(node *fakeEtcd) { node.cut = 5000 }, "truncated"},
		"altered":  {func(node *fakeEtcd) { node.snapshot[100000] ^= 1 }, "altered"},
		"broken":   {func(node *fakeEtcd) { node.err = status.Error(codes.Internal, "read the database") }, "read the database"},
		"an empty": {func(node *fakeEtcd) { node.snapshot = nil }, "no snapshot of etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			harness, node := newEtcdHarness(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "etcd.db")
			if err := os.WriteFile(path, []byte("the one before"), 0o600); err != nil {
				t.Fatal(err)
			}
			test.change(node)
			harness.fails(t, exitError, []string{"snapshot: ", test.want}, "etcd", "snapshot", path, "--force")
			content, err := os.ReadFile(path)
			if err != nil || string(content) != "the one before" {
				t.Errorf("the file before it holds %q, %v", content, err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

func TestRecoverSendsTheWholeSnapshot(t *testing.T) {
	harness, node := newEtcdHarness(t)
	path := filepath.Join(t.TempDir(), "etcd.db")
	content := testSnapshot()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := harness.run(t, "bootstrap", "--recover-from", path); code != exitOK || !strings.HasPrefix(harness.out.String(), "recovered 7 keys, revision 12345") {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
	if !bytes.Equal(node.recovered.Bytes(), content) || node.largest > 1<<20 {
		t.Errorf("the node got %d bytes of %d, in messages of up to %d", node.recovered.Len(), len(content), node.largest)
	}
	node.err = status.Error(codes.FailedPrecondition, "this node has etcd data already")
	harness.fails(t, exitError, []string{"recover from " + path + ": this node has etcd data already"}, "bootstrap", "--recover-from", path)
}

func TestRecoverSendsNothingOfADamagedSnapshot(t *testing.T) {
	harness, node := newEtcdHarness(t)
	node.err = errors.New("was asked")
	whole := testSnapshot()
	altered := bytes.Clone(whole)
	altered[5000] ^= 1
	for want, content := range map[string][]byte{
		"altered": altered, "truncated": whole[:len(whole)-32], "no snapshot": []byte("text"),
	} {
		path := filepath.Join(t.TempDir(), "etcd.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		harness.fails(t, exitError, []string{want, "nothing was sent"}, "bootstrap", "--recover-from", path)
	}
	harness.fails(t, exitError, []string{"none.db"}, "bootstrap", "--recover-from", "none.db")
	harness.fails(t, exitError, []string{"not a file"}, "bootstrap", "--recover-from", t.TempDir())
	harness.fails(t, exitError, []string{"recover from a snapshot: open"}, "bootstrap", "--recover-from", "")
}
