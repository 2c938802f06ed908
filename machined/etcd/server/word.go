package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// wordPrefix begins the keys under which learners find why they were
	// removed, followed by their peer URL. Kubernetes' keys begin with /registry.
	wordPrefix = "/keelson/etcd/removed/"
	// wordLife is how long they are kept.
	wordLife = time.Hour
)

// leaveWord notes for a member that is about to be removed why it was.
func leaveWord(ctx context.Context, client *clientv3.Client, peerURLs []string, reason string) error {
	lease, err := client.Grant(ctx, int64(wordLife.Seconds()))
	if err != nil {
		return err
	}
	for _, url := range peerURLs {
		if _, err := client.Put(ctx, wordPrefix+url, reason, clientv3.WithLease(lease.ID)); err != nil {
			return err
		}
	}
	return nil
}

// findWord returns what was left for the member at peerURL; empty for nothing.
func findWord(ctx context.Context, client *clientv3.Client, peerURL string) (string, error) {
	found, err := client.Get(ctx, wordPrefix+peerURL)
	if err != nil || len(found.Kvs) == 0 {
		return "", err
	}
	return string(found.Kvs[0].Value), nil
}
