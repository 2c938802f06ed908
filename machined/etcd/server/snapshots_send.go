package main

import (
	"io"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// sendKept sends one of the snapshots that the node keeps, which needs no
// member: it is for when the member's data is lost, or wrong.
func (a *admin) sendKept(name string, stream grpc.ServerStreamingServer[etcdapi.SnapshotResponse]) error {
	k := a.snapshots.keeper
	list, err := readSnapshots(k.dir)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	var all []string
	for _, one := range newestFirst(list, k.now()) {
		if one.name == name {
			return a.sendFile(one, stream)
		}
		all = append(all, one.name)
	}
	return status.Errorf(codes.NotFound, "no snapshot %q is kept on this node; there are: %s", name, listOr(all, "none"))
}

func (a *admin) sendFile(one kept, stream grpc.ServerStreamingServer[etcdapi.SnapshotResponse]) error {
	k := a.snapshots.keeper
	intact, err := k.intact(stream.Context(), one.name)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if !intact {
		return status.Errorf(codes.DataLoss, "snapshot %s is damaged: take another one (osctl etcd snapshots)", one.name)
	}
	file, err := os.Open(filepath.Join(k.dir, one.name))
	if err != nil {
		return status.Errorf(codes.Internal, "read a snapshot: %v", err)
	}
	defer file.Close()
	defer forget(file)
	if err := stream.Send(&etcdapi.SnapshotResponse{Size: one.size, Revision: one.revision}); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(&chunks{stream: stream}, struct{ io.Reader }{file}, make([]byte, chunkSize)); err != nil {
		return err
	}
	return nil
}
