package main

import (
	"errors"
	"io/fs"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// dialEtcd prepares the connection to this node's etcd, whose own API is there
// only while it runs.
func dialEtcd(socket string) (localBackend, error) {
	return dialLocal(socket, func(reason string) error {
		if _, err := os.Stat(socket); errors.Is(err, fs.ErrNotExist) {
			return status.Error(codes.FailedPrecondition,
				"this node runs no etcd: it is a worker, or a control-plane node that has not joined (osctl services), or the cluster is new (osctl bootstrap)")
		}
		return status.Errorf(codes.Unavailable,
			"the node's etcd does not answer: it is starting or going down; osctl services and osctl logs etcd say more (%s)", reason)
	})
}
