package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/keelson-os/keelson/pkg/api/install"
)

// Installer puts the operating system on a disk. Its errors are gRPC statuses, or
// say why something cannot be done now.
type Installer interface {
	Disks(ctx context.Context) ([]*install.Disk, error)
	// Install may call tell with what to answer the client.
	Install(ctx context.Context, request *install.InstallRequest, tell func(*install.InstallResponse) error) error
}

type installService struct {
	install.UnimplementedInstallServiceServer
	installer Installer
}

func (s *installService) Disks(ctx context.Context, _ *install.DisksRequest) (*install.DisksResponse, error) {
	disks, err := s.installer.Disks(ctx)
	if err != nil {
		return nil, precondition(err)
	}
	for _, disk := range disks {
		// A disk says of itself what it likes.
		for _, words := range []*string{&disk.Model, &disk.Serial, &disk.Wwn, &disk.Content} {
			*words = text(*words)
		}
	}
	return &install.DisksResponse{Disks: disks}, nil
}

func (s *installService) Install(request *install.InstallRequest, stream grpc.ServerStreamingServer[install.InstallResponse]) error {
	if err := s.installer.Install(stream.Context(), request, stream.Send); err != nil {
		return precondition(err)
	}
	return nil
}
