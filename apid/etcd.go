package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdpb "github.com/keelson-os/keelson/pkg/api/etcd"
)

// local is where the calls of this node go that apid does not answer itself.
type local struct {
	machined, etcd localBackend
}

func dialProcesses(o options) (local, error) {
	machined, err := dialMachined(o.machined)
	if err != nil {
		return local{}, err
	}
	etcd, err := dialEtcd(o.etcdAdmin)
	return local{machined, etcd}, err
}

// direct chooses by the method's service.
func (l local) direct(method string) backend {
	if strings.HasPrefix(method, "/"+etcdpb.EtcdService_ServiceDesc.ServiceName+"/") {
		return l.etcd
	}
	return l.machined
}

func (l local) close() {
	l.machined.Close()
	l.etcd.Close()
}

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
