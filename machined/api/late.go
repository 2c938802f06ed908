package api

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/image"
)

// late holds what the API is handed only after it serves: it is up before the
// disk is, so that a node whose disk fails can be asked why.
type late struct {
	node Node

	mu      sync.Mutex
	cluster Cluster
	images  image.ImageServiceServer
	joiner  Joiner
	// upgrader stays nil on a node without slots.
	upgrader Upgrader
}

func (l *late) getCluster() (Cluster, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cluster == nil {
		return nil, l.notYet("the cluster")
	}
	return l.cluster, nil
}

func (l *late) getImages() (image.ImageServiceServer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.images == nil {
		return nil, l.notYet("container images")
	}
	return l.images, nil
}

func (l *late) getUpgrader() (Upgrader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.upgrader == nil {
		return nil, status.Error(codes.FailedPrecondition,
			"this node was not installed, it was given its image: what starts the machine has to start another one")
	}
	return l.upgrader, nil
}

// getJoiner returns nil while there is none: who asks for it is a stranger, who
// need not know how far the node is.
func (l *late) getJoiner() Joiner {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.joiner
}

// notYet says how far the node is.
func (l *late) notYet(what string) error {
	now := l.node.Status()
	if len(now.GetProblems()) > 0 {
		return status.Errorf(codes.Unavailable, "the node does not have %s: %s", what, now.GetProblems()[0])
	}
	return status.Errorf(codes.Unavailable, "the node does not have %s yet: it is in boot phase %q", what, now.GetPhase())
}

// lateImages is the image service until and after there is one.
type lateImages struct {
	image.UnimplementedImageServiceServer
	late *late
}

func (s *lateImages) List(ctx context.Context, request *image.ListRequest) (*image.ListResponse, error) {
	target, err := s.late.getImages()
	if err != nil {
		return nil, err
	}
	return target.List(ctx, request)
}

func (s *lateImages) Import(stream grpc.ClientStreamingServer[image.ImportRequest, image.ImportResponse]) error {
	target, err := s.late.getImages()
	if err != nil {
		return err
	}
	return target.Import(stream)
}

func (s *lateImages) Remove(ctx context.Context, request *image.RemoveRequest) (*image.RemoveResponse, error) {
	target, err := s.late.getImages()
	if err != nil {
		return nil, err
	}
	return target.Remove(ctx, request)
}

func (s *lateImages) Pin(ctx context.Context, request *image.PinRequest) (*image.PinResponse, error) {
	target, err := s.late.getImages()
	if err != nil {
		return nil, err
	}
	return target.Pin(ctx, request)
}
