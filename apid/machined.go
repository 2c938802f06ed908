package main

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	etcdpb "github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/client"
)

// maxRedial bounds how long after a process is back calls still fail; gRPC's
// default is two minutes.
const maxRedial = 3 * time.Second

// redial is when a connection that failed is tried again.
func redial(deadline time.Duration) grpc.ConnectParams {
	params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: deadline}
	params.Backoff.BaseDelay = 100 * time.Millisecond
	params.Backoff.MaxDelay = maxRedial
	return params
}

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

// localBackend is a process of this node, behind its unix socket.
type localBackend struct {
	*grpc.ClientConn
	// down says that it does not answer.
	down func(reason string) error
}

// dialLocal prepares the connection; the first call opens it.
func dialLocal(socket string, down func(reason string) error) (localBackend, error) {
	conn, err := grpc.NewClient("unix:"+socket,
		// The socket's owner and mode say who may connect.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frameCodec{}), grpc.MaxCallRecvMsgSize(maxRequest)),
		grpc.WithConnectParams(redial(maxRedial)),
		// A retry would keep sent messages in memory.
		grpc.WithDisableRetry(),
	)
	if err != nil {
		return localBackend{}, fmt.Errorf("prepare the connection to %s: %w", socket, err)
	}
	return localBackend{conn, down}, nil
}

// dialMachined prepares the connection to PID 1, which answers most calls.
func dialMachined(socket string) (localBackend, error) {
	return dialLocal(socket, func(reason string) error {
		return status.Errorf(codes.Unavailable,
			"the node's machined does not answer: it is starting or going down; try again in a few seconds (%s)", reason)
	})
}

func (localBackend) node() string { return "" }

func (b localBackend) explain(err error, _ bool) error {
	if reason, lost := connectionLost(b.ClientConn, err); lost {
		return b.down(reason)
	}
	return err
}

// connectionLost tells an error of the connection, and its reason, from what
// the process at its other end answered.
func connectionLost(conn *grpc.ClientConn, err error) (reason string, lost bool) {
	if status.Code(err) != codes.Unavailable {
		return "", false
	}
	message := status.Convert(err).Message()
	if reason, lost := client.ConnectionReason(message); lost {
		return reason, true
	}
	return message, conn.GetState() != connectivity.Ready
}
