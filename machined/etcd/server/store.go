package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/keelson-os/keelson/pkg/snapshot"
)

const (
	// storePatience bounds a question to the store.
	storePatience = time.Minute
	// slowest is how many bytes a second a store must take at least.
	slowest = 256 << 10
	// maxObjects bounds what is read of a bucket: our folder holds a few.
	maxObjects = 10000
	// maxReason bounds what is repeated of the store's own words.
	maxReason = 300
	// checksumKey is the header by which a store checks and keeps a checksum.
	checksumKey = "x-amz-checksum-sha256"
)

// bucket is the snapshot store: the objects below a prefix of one bucket.
type bucket struct {
	client *minio.Core
	config snapshot.Store
}

// openStore reads the file that says where the store is. It asks the store
// nothing yet.
func openStore(path string) (*bucket, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read where the snapshot store is: %w", err)
	}
	var config snapshot.Store
	if err := json.Unmarshal(content, &config); err != nil {
		// The text around the error may be a key: it is not repeated.
		return nil, fmt.Errorf("read where the snapshot store is: %s is not in the form expected", path)
	}
	return newBucket(config)
}

func newBucket(config snapshot.Store) (*bucket, error) {
	endpoint, err := url.Parse(config.Endpoint)
	if err != nil || endpoint.Host == "" {
		return nil, errors.New("the snapshot store's endpoint is not a URL: see cluster.etcd.snapshots.s3.endpoint")
	}
	// Who the store is is told by its certificate; which versions of TLS it
	// speaks is not ours to choose.
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if config.CA != "" {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM([]byte(config.CA)) {
			return nil, errors.New("the snapshot store's CA is not a certificate: see cluster.etcd.snapshots.s3.ca")
		}
	}
	client, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(config.AccessKeyID, config.SecretAccessKey, ""),
		Secure: endpoint.Scheme == "https",
		Region: config.Region,
		// The caller tries again, and says so.
		MaxRetries: 1,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        trust,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  storePatience,
			IdleConnTimeout:        10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("the snapshot store %s: %w", config, err)
	}
	return &bucket{client: client, config: config}, nil
}

// list returns the snapshots in the store, in no order. Whatever else is there
// is not ours.
func (b *bucket) list(ctx context.Context) ([]kept, error) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	var list []kept
	seen := 0
	for object := range b.client.ListObjectsIter(ctx, b.config.Bucket, minio.ListObjectsOptions{Prefix: b.config.Prefix}) {
		if object.Err != nil {
			return nil, b.explain("list the snapshots in", object.Err)
		}
		if seen++; seen > maxObjects {
			return nil, fmt.Errorf("the snapshot store %s: more than %d objects: choose a prefix of its own", b.config, maxObjects)
		}
		if one, ours := parseName(strings.TrimPrefix(object.Key, b.config.Prefix)); ours {
			one.size, one.stored = object.Size, true
			list = append(list, one)
		}
	}
	// The library ends a list that was cut short like one that is complete.
	if err := ctx.Err(); err != nil {
		return nil, b.explain("list the snapshots in", err)
	}
	return list, nil
}

// put sends a snapshot. It goes as one request, for which the store must have
// received what the signature says: the database is at most 4 GiB, and stores
// take 5 in one. So nothing of it is held in memory, and no parts are left
// behind by a process that was killed.
func (b *bucket) put(ctx context.Context, one kept, content io.ReaderAt, sum snapshot.Sum) error {
	ctx, cancel := context.WithTimeout(ctx, storePatience+time.Duration(one.size/slowest)*time.Second)
	defer cancel()
	key, checksum := b.config.Prefix+one.name, base64.StdEncoding.EncodeToString(sum[:])
	_, err := b.client.PutObject(ctx, b.config.Bucket, key, io.NewSectionReader(content, 0, one.size), one.size,
		"", hex.EncodeToString(sum[:]), minio.PutObjectOptions{
			UserMetadata: map[string]string{checksumKey: checksum},
			// Whatever the name says: do not sign piece by piece where there is no TLS.
			DisableContentSha256: true,
		})
	if err != nil {
		return b.explain("send a snapshot to", err)
	}
	found, err := b.client.StatObject(ctx, b.config.Bucket, key, minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return b.explain("look for the snapshot that was sent to", err)
	}
	if found.Size != one.size || found.ChecksumSHA256 != "" && found.ChecksumSHA256 != checksum {
		return fmt.Errorf("the snapshot store %s holds something else than %s that was sent there", b.config, one.name)
	}
	return nil
}

// remove removes a snapshot; that it is gone already is no error.
func (b *bucket) remove(ctx context.Context, one kept) error {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	if err := b.client.RemoveObject(ctx, b.config.Bucket, b.config.Prefix+one.name, minio.RemoveObjectOptions{}); err != nil {
		return b.explain("remove an old snapshot from", err)
	}
	return nil
}

// explain says what failed and what to do about it.
func (b *bucket) explain(doing string, err error) error {
	answer := minio.ToErrorResponse(err)
	advice := ""
	switch {
	case answer.Code == minio.NoSuchBucket:
		advice = ": make the bucket, or correct cluster.etcd.snapshots.s3.bucket"
	case answer.Code == minio.AuthorizationHeaderMalformed, answer.Code == minio.InvalidRegion:
		advice = ": check cluster.etcd.snapshots.s3.region"
	case answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden:
		advice = ": check secrets.snapshotStore, and what the key may do with the bucket (list, put, get, delete)"
	}
	reason := strings.Join(strings.Fields(err.Error()), " ")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	return fmt.Errorf("%s the snapshot store %s: %s%s", doing, b.config, reason, advice)
}
