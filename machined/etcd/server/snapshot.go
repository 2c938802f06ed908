package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/version"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

// chunkSize is bytes of a snapshot per message.
const chunkSize = 256 << 10

// Snapshot implements EtcdService.
func (a *admin) Snapshot(request *etcdapi.SnapshotRequest, stream grpc.ServerStreamingServer[etcdapi.SnapshotResponse]) error {
	if request.GetName() != "" {
		return a.sendKept(request.GetName(), stream)
	}
	m, err := a.member()
	if err != nil {
		return err
	}
	a.rewriting.RLock()
	defer a.rewriting.RUnlock()
	// Taken before the data, so that it holds at least what the revision says.
	revision := m.Server.KV().Rev()
	data := m.Server.Backend().Snapshot()
	defer data.Close()
	first := &etcdapi.SnapshotResponse{Size: data.Size() + snapshot.SumSize, Revision: revision, Version: version.Version}
	if err := stream.Send(first); err != nil {
		return err
	}
	out := snapshot.NewWriter(&chunks{stream: stream})
	if _, err := data.WriteTo(out); err != nil {
		return status.Errorf(codes.Internal, "read the database: %v", err)
	}
	return out.Finish()
}

// chunks sends what is written to it.
type chunks struct {
	stream grpc.ServerStreamingServer[etcdapi.SnapshotResponse]
}

func (c *chunks) Write(data []byte) (int, error) {
	for sent := 0; sent < len(data); {
		part := data[sent:min(sent+chunkSize, len(data))]
		if err := c.stream.Send(&etcdapi.SnapshotResponse{Chunk: part}); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return len(data), nil
}
