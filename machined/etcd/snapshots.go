package etcd

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

// storeFile, in the secrets folder, says where snapshots are sent, and holds
// the keys to it.
const storeFile = "store.json"

// snapshotArgs are the flags of the snapshots that are made by themselves.
func snapshotArgs(o Options) []string {
	config := o.Config.Snapshots
	list := []string{
		"--snapshot-dir=" + o.SnapshotsDir,
		"--snapshot-interval=" + config.Interval.String(),
		"--snapshot-keep=" + strconv.Itoa(config.Keep),
		"--snapshot-max-age=" + config.MaxAge.String(),
	}
	if config.S3.Endpoint != "" {
		list = append(list, "--snapshot-store="+filepath.Join(o.SecretsDir, storeFile))
	}
	return list
}

// storeConfig is the store's file. Below the configured prefix every cluster
// has a folder of its own: two with one config would take each other's
// snapshots for their own old ones.
func storeConfig(o Options) ([]byte, error) {
	store := o.Config.Snapshots.S3
	prefix := store.Prefix
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	text, err := json.Marshal(snapshot.Store{
		Endpoint: store.Endpoint, Bucket: store.Bucket, Prefix: prefix + o.ClusterID + "/", Region: store.Region, CA: store.CA,
		AccessKeyID: o.StoreKeys.AccessKeyID, SecretAccessKey: string(o.StoreKeys.SecretAccessKey),
	})
	if err != nil {
		return nil, fmt.Errorf("write where the snapshot store is: %w", err)
	}
	return text, nil
}
