package client

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/kubetunnel"
)

// closeTimeout is how long the node may take to end a connection that the client
// has closed.
const closeTimeout = 5 * time.Second

// DialKubernetes opens a connection to the Kubernetes API through the node:
// HTTP/1.1 without TLS, every request on which is made as the client's user. The
// error is the node's own if it does not let the user through, or has no way to
// Kubernetes. The connection outlives ctx, and ends with Close or the client.
func (client *Client) DialKubernetes(ctx context.Context) (net.Conn, error) {
	calling, end := context.WithCancel(context.WithoutCancel(ctx))
	// Until it stands, the caller may give up.
	stop := context.AfterFunc(ctx, end)
	stream, err := client.Workload.Kubernetes(calling)
	var header metadata.MD
	if err == nil {
		header, err = stream.Header()
	}
	if err == nil && len(header.Get(identity.MetadataConnected)) == 0 {
		_, err = stream.Recv() // the call has ended, and says why
	}
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, err
	}
	conn := kubetunnel.New(clientStream{stream}, tunnelAddress{})
	go func() {
		<-conn.Done()
		// What was written goes out before the call ends.
		_ = stream.CloseSend()
		select {
		case <-conn.Received():
		case <-time.After(closeTimeout):
		}
		end()
	}()
	return conn, nil
}

type clientStream struct {
	workload.WorkloadService_KubernetesClient
}

func (s clientStream) Send(data []byte) error {
	return s.WorkloadService_KubernetesClient.Send(&workload.KubernetesRequest{Data: data})
}

func (s clientStream) Recv() ([]byte, error) {
	response, err := s.WorkloadService_KubernetesClient.Recv()
	return response.GetData(), err
}

// tunnelAddress is the remote address of a connection that goes through a node.
type tunnelAddress struct{}

func (tunnelAddress) Network() string { return "grpc" }
func (tunnelAddress) String() string  { return "kubernetes" }
