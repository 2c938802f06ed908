package containers

import (
	"context"
	"fmt"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// namespace is the one that containerd's Kubernetes side uses.
const namespace = "k8s.io"

// Headers of containerd's API.
const (
	namespaceHeader = "containerd-namespace"
	leaseHeader     = "containerd-lease"
)

// dial prepares a connection to containerd's socket. The plain gRPC API is
// used rather than containerd's client package: that one would bring 150 more
// packages into PID 1.
func dial(socket string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket is root's
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			return invoke(inNamespace(ctx), method, request, reply, conn, options...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(inNamespace(ctx), desc, conn, method, options...)
		}),
		// containerd comes up within seconds; gRPC's own backoff grows to minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to containerd: %w", err)
	}
	return conn, nil
}

func inNamespace(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, namespaceHeader, namespace)
}

// records lists containerd's image records: several for one image.
func (s *Service) records(ctx context.Context) ([]*imagesapi.Image, error) {
	response, err := imagesapi.NewImagesClient(s.conn).List(ctx, &imagesapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list containerd's images: %w", err)
	}
	return response.GetImages(), nil
}

// maxDocument bounds what is read of a manifest or index, in bytes. Registries
// allow 4 MiB.
const maxDocument = 4 << 20

// document reads a manifest or an index.
func (s *Service) document(ctx context.Context, target *types.Descriptor) ([]byte, error) {
	if target.GetSize() > maxDocument {
		return nil, fmt.Errorf("read %s: %d bytes are too many for a manifest", target.GetDigest(), target.GetSize())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := contentapi.NewContentClient(s.conn).Read(ctx, &contentapi.ReadContentRequest{Digest: target.GetDigest()})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", target.GetDigest(), err)
	}
	var text []byte
	for int64(len(text)) < target.GetSize() {
		part, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", target.GetDigest(), err)
		}
		text = append(text, part.GetData()...)
	}
	return text, nil
}
