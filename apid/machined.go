package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// maxRedial bounds how long after machined is back calls still fail; gRPC's
// default is two minutes.
const maxRedial = 3 * time.Second

// machined is this node's own services, behind the unix socket of PID 1.
type machined struct {
	conn *grpc.ClientConn
}

// dialMachined prepares the connection; the first call opens it.
func dialMachined(socket string) (machined, error) {
	redial := backoff.DefaultConfig
	redial.BaseDelay = 100 * time.Millisecond
	redial.MaxDelay = maxRedial
	conn, err := grpc.NewClient("unix:"+socket,
		// The socket's owner and mode say who may connect.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frameCodec{}), grpc.MaxCallRecvMsgSize(maxRequest)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: maxRedial}),
		// A retry would keep sent messages in memory.
		grpc.WithDisableRetry(),
	)
	if err != nil {
		return machined{}, fmt.Errorf("prepare the connection to machined at %s: %w", socket, err)
	}
	return machined{conn}, nil
}

// direct is the director of a node that knows no other.
func (m machined) direct(string, metadata.MD) (backend, error) {
	return localBackend{m.conn}, nil
}

type localBackend struct {
	*grpc.ClientConn
}

// explain leaves what machined itself answered as it is, and says in a sentence
// that there was no answer.
func (b localBackend) explain(err error) error {
	if status.Code(err) != codes.Unavailable || b.GetState() == connectivity.Ready {
		return err
	}
	return status.Errorf(codes.Unavailable,
		"the node's machined does not answer: it is starting or going down; try again in a few seconds (%s)",
		status.Convert(err).Message())
}
