package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/machined/etcd"
)

// Recover implements api.Cluster.
func (c *clusterView) Recover(ctx context.Context, snapshot io.Reader) (revision, keys int64, err error) {
	if c.etcd == nil {
		return 0, 0, status.Error(codes.FailedPrecondition, "this node is a worker and has no etcd: ask a control-plane node")
	}
	revision, keys, err = c.etcd.Recover(ctx, snapshot)
	if errors.Is(err, etcd.ErrSnapshot) {
		return 0, 0, status.Error(codes.InvalidArgument, err.Error())
	}
	return revision, keys, err
}
