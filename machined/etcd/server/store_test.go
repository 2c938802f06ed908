package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

// put sends some bytes under a snapshot's name.
func put(t *testing.T, to *bucket, one kept, content []byte) error {
	t.Helper()
	one.size = int64(len(content))
	return to.put(t.Context(), one, bytes.NewReader(content), sha256.Sum256(content))
}

func TestStoreTakesListsGivesBackAndRemoves(t *testing.T) {
	for _, scheme := range []string{"https", "http"} {
		t.Run(scheme, func(t *testing.T) { testStore(t, startS3By(t, scheme).open(t, nil)) })
	}
}

func testStore(t *testing.T, to *bucket) {
	content := bytes.Repeat([]byte("snapshot"), 1<<20)
	if err := put(t, to, ago(2), content); err != nil {
		t.Fatal(err)
	}
	if err := put(t, to, ago(1), content[:100]); err != nil {
		t.Fatal(err)
	}
	list, err := to.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list = newestFirst(list, noon)
	if len(list) != 2 || list[0].name != ago(1).name || list[0].size != 100 || list[1].size != int64(len(content)) || !list[1].stored {
		t.Fatalf("lists %v", list)
	}
	if back := fetch(t, to, ago(2).name); !bytes.Equal(back, content) {
		t.Errorf("gives back %d bytes that are not what was put", len(back))
	}
	if err := to.remove(t.Context(), ago(2)); err != nil {
		t.Fatal(err)
	}
	if err := to.remove(t.Context(), ago(2)); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
	if list, err = to.list(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("after a removal it lists %v, %v", list, err)
	}
}

func fetch(t *testing.T, from *bucket, name string) []byte {
	t.Helper()
	object, err := from.client.Client.GetObject(t.Context(), from.config.Bucket, from.config.Prefix+name, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	content, err := io.ReadAll(object)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// What arrives is not what was signed: the store refuses it, and keeps nothing.
func TestStoreRefusesWhatWasAlteredOnTheWay(t *testing.T) {
	for _, scheme := range []string{"https", "http"} {
		to := startS3By(t, scheme).open(t, nil)
		one := ago(1)
		one.size = 4096
		err := to.put(t.Context(), one, bytes.NewReader(make([]byte, 4096)), sha256.Sum256([]byte("other")))
		if err == nil {
			t.Errorf("%s: taken", scheme)
		}
		if list, err := to.list(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%s: lists %v, %v", scheme, list, err)
		}
	}
}

func TestStoreSaysWhatIsWrong(t *testing.T) {
	server := startS3(t)
	other := startS3(t)
	nobody := "https://127.0.0.1:1"
	for name, test := range map[string]struct {
		change func(*snapshot.Store)
		want   []string
	}{
		"a wrong key":       {func(c *snapshot.Store) { c.SecretAccessKey = "wrong-wrong-wrong" }, []string{"secrets.snapshotStore"}},
		"an unknown key":    {func(c *snapshot.Store) { c.AccessKeyID = "stranger" }, []string{"access key"}},
		"no such bucket":    {func(c *snapshot.Store) { c.Bucket = "elsewhere" }, []string{"make the bucket"}},
		"nobody listens":    {func(c *snapshot.Store) { c.Endpoint = nobody }, []string{nobody, "connection refused"}},
		"another authority": {func(c *snapshot.Store) { c.CA = other.config.CA }, []string{"certificate"}},
		"no authority":      {func(c *snapshot.Store) { c.CA = "" }, []string{"certificate"}},
		"a wrong region":    {func(c *snapshot.Store) { c.Region = "eu-north-9" }, []string{"region"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := server.open(t, test.change)
			_, listErr := to.list(t.Context())
			for doing, err := range map[string]error{"list": listErr, "put": put(t, to, ago(1), make([]byte, 100000))} {
				if err == nil {
					t.Errorf("%s: no error", doing)
					continue
				}
				for _, want := range append(test.want, "the snapshot store https://127.0.0.1:") {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: nothing of %q in: %v", doing, want, err)
					}
				}
				if strings.Contains(err.Error(), to.config.SecretAccessKey) {
					t.Errorf("%s: tells the key: %v", doing, err)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := server.open(t, nil).list(ctx); err == nil {
		t.Error("asks on after its context ended")
	}
}

// Retention is for our own names below our own prefix.
func TestSenderLeavesWhatIsNotOurs(t *testing.T) {
	server := startS3(t)
	to := server.open(t, nil)
	neighbour := server.open(t, func(c *snapshot.Store) { c.Prefix = "keelson/c0ffee2/" })
	folder := filepath.Join(server.folder, "backups", "keelson", "c0ffee")
	for _, step := range []error{
		put(t, neighbour, ago(500), []byte("another cluster's")),
		put(t, to, ago(400), []byte("too old")),
		put(t, to, kept{name: "notes.txt"}, []byte("somebody's notes")),
		put(t, to, kept{name: ago(400).name + ".txt"}, []byte("notes too")),
		put(t, to, kept{name: "deeper/" + ago(400).name}, []byte("further below")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	k := newTestKeeper(t)
	k.number = 1
	s := newTestSender(k, to)
	k.mustStep(t)
	if synced, err := s.step(t.Context(), true, ""); err != nil || synced != snapshotName(noon, 100) {
		t.Fatalf("synced up to %q, %v", synced, err)
	}
	var left []string
	for _, pattern := range []string{"*", "deeper/*", "../c0ffee2/*"} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				left = append(left, filepath.Base(path))
			}
		}
	}
	want := []string{ago(400).name + ".txt", snapshotName(noon, 100), "notes.txt", ago(400).name, ago(500).name}
	slices.Sort(left)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("in the store are %v, want %v", left, want)
	}
	if back := fetch(t, to, snapshotName(noon, 100)); int64(len(back)) != k.data.Size()+snapshot.SumSize {
		t.Errorf("gives back %d bytes", len(back))
	}
	if list, err := k.list(t.Context()); err != nil || len(list) != 1 || !list[0].stored {
		t.Errorf("the node lists %v, %v", list, err)
	}
}
