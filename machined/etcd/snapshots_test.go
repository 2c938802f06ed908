package etcd

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

func TestSnapshotArgs(t *testing.T) {
	o := Options{Config: machineconfig.Etcd{Snapshots: machineconfig.EtcdSnapshots{Interval: time.Hour, Keep: 3, MaxAge: 24 * time.Hour}}}.withDefaults()
	want := []string{"--snapshot-dir=/var/lib/etcd-snapshots", "--snapshot-interval=1h0m0s", "--snapshot-keep=3", "--snapshot-max-age=24h0m0s"}
	if got := snapshotArgs(o); !slices.Equal(got, want) {
		t.Errorf("without a store: %v", got)
	}
	o.Config.Snapshots.S3 = machineconfig.S3Store{Endpoint: "https://s3.example.com", Bucket: "backups", Prefix: "keelson", CA: "PEM"}
	o.StoreKeys = machineconfig.S3Keys{AccessKeyID: "id", SecretAccessKey: "key"}
	o.ClusterID = "c0ffee"
	got := snapshotArgs(o)
	if last := got[len(got)-1]; last != "--snapshot-store=/run/keelson/secrets/etcd/store.json" || strings.Contains(strings.Join(got, " "), "key") {
		t.Errorf("with a store: %v", got)
	}
}

func TestStoreConfig(t *testing.T) {
	for prefix, want := range map[string]string{"": "c0ffee/", "keelson": "keelson/c0ffee/", "keelson/": "keelson/c0ffee/"} {
		o := Options{ClusterID: "c0ffee", StoreKeys: machineconfig.S3Keys{AccessKeyID: "id", SecretAccessKey: "key"}}
		o.Config.Snapshots.S3 = machineconfig.S3Store{Endpoint: "https://s3.example.com", Bucket: "backups", Prefix: prefix, Region: "eu-1", CA: "PEM"}
		text, err := storeConfig(o)
		if err != nil {
			t.Fatal(err)
		}
		var got snapshot.Store
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if want := (snapshot.Store{
			Endpoint: "https://s3.example.com", Bucket: "backups", Prefix: want, Region: "eu-1", CA: "PEM",
			AccessKeyID: "id", SecretAccessKey: "key",
		}); got != want {
			t.Errorf("prefix %q: %+v", prefix, got)
		}
		if strings.Contains(got.String(), "key") {
			t.Errorf("tells the key: %s", got)
		}
	}
}
