package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/coreos/go-semver/semver"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/version"
	etcdsnapshot "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

// checkCommand is the argument that makes this program check a snapshot.
const checkCommand = "check-snapshot"

// checked is what is told of a good snapshot, as JSON.
type checked struct {
	Revision int64 `json:"revision"`
	Keys     int64 `json:"keys"`
	// Refused is why it is no good; then nothing else is told.
	Refused string `json:"refused,omitempty"`
}

// check tells on out whether the snapshot in a file can be restored by this
// version of etcd. An error is that it cannot be told.
func check(path string, out io.Writer) error {
	result, err := inspect(path)
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		result, err = checked{Refused: refused.Error()}, nil
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// refusal is an error of the snapshot, not of reading it.
type refusal struct{ error }

func inspect(path string) (result checked, err error) {
	file, err := os.Open(path)
	if err != nil {
		return checked{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return checked{}, err
	}
	if _, err := snapshot.Check(file, info.Size()); err != nil {
		if errors.Is(err, snapshot.ErrForeign) || errors.Is(err, snapshot.ErrTruncated) || errors.Is(err, snapshot.ErrAltered) {
			err = &refusal{err}
		}
		return checked{}, err
	}
	// Its checksum is right, but whoever made it may have made any file: the
	// libraries below panic on some of those.
	defer func() {
		if caught := recover(); caught != nil {
			err = &refusal{fmt.Errorf("no snapshot of etcd: %v", caught)}
		}
	}()
	if err := checkVersion(path); err != nil {
		return checked{}, &refusal{err}
	}
	found, err := etcdsnapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		return checked{}, &refusal{fmt.Errorf("damaged snapshot: %w", err)}
	}
	return checked{Revision: found.Revision, Keys: int64(found.TotalKey)}, nil
}

// checkVersion refuses what another minor version of etcd wrote.
func checkVersion(path string) error {
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("no snapshot of etcd: %w", err)
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		wrote, ours := writtenBy(tx), semver.New(version.Version)
		if wrote == nil {
			return fmt.Errorf("no snapshot of etcd 3.6 or later: it does not say which version wrote it")
		}
		if wrote.Major != ours.Major || wrote.Minor != ours.Minor {
			return fmt.Errorf("the snapshot is of etcd %d.%d, this node runs %s: recover with an OS version that has etcd %d.%d",
				wrote.Major, wrote.Minor, ours, wrote.Major, wrote.Minor)
		}
		return nil
	})
}

// writtenBy is the version of etcd's data. A cluster some seconds old does not
// tell the version of its storage yet, but that of its members.
func writtenBy(tx *bolt.Tx) *semver.Version {
	for _, place := range []struct {
		bucket schemaBucket
		key    []byte
	}{
		{schema.Meta, schema.MetaStorageVersionName},
		{schema.Cluster, schema.ClusterClusterVersionKeyName},
	} {
		bucket := tx.Bucket(place.bucket.Name())
		if bucket == nil {
			continue
		}
		if found, err := semver.NewVersion(strings.TrimSpace(string(bucket.Get(place.key)))); err == nil {
			return found
		}
	}
	return nil
}

// schemaBucket is one of etcd's buckets by its name.
type schemaBucket interface{ Name() []byte }
