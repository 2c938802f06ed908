package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

// fakeEtcd is a cluster of ha-1, which leads, ha-2 and ha-3, which is down.
type fakeEtcd struct {
	etcd.UnimplementedEtcdServiceServer
	cluster.UnimplementedClusterServiceServer
	did      []string
	members  *etcd.MembersResponse
	alarms   []*etcd.Alarm
	leader   string
	problem  string
	snapshot []byte
	cut      int   // bytes of the snapshot that are not sent
	err      error // of every change

	recovered bytes.Buffer
	largest   int // message of it
}

func newEtcdHarness(t *testing.T) (*harness, *fakeEtcd) {
	node := &fakeEtcd{leader: "ha-2", members: testMembers(), snapshot: testSnapshot()}
	return newHarness(t, func(server *grpc.Server) {
		etcd.RegisterEtcdServiceServer(server, node)
		cluster.RegisterClusterServiceServer(server, node)
	}), node
}

func testMembers() *etcd.MembersResponse {
	return &etcd.MembersResponse{ClusterId: "c0ffee", LeaderId: "8e9e05c52164694d", Members: []*etcd.Member{
		{
			Id: "8e9e05c52164694d", Name: "ha-1", Leader: true, Reachable: true,
			PeerUrls: []string{"https://10.77.0.11:2380"}, ClientUrls: []string{"https://10.77.0.11:2379"},
		},
		{
			Id: "91bc3c398fb3c146", Name: "ha-2", PeerUrls: []string{"https://10.77.0.12:2380"},
			ClientUrls: []string{"https://10.77.0.12:2379"}, Message: "no answer within 3s: the node may be down",
		},
		{
			Id: "fd422379fda50e48", Learner: true, Reachable: true, PeerUrls: []string{"https://10.77.0.13:2380"},
			Message: "1200 entries behind",
		},
	}}
}

// testSnapshot is as large as several chunks.
func testSnapshot() []byte {
	database := bytes.Repeat([]byte("keelson "), 256<<10)
	binary.LittleEndian.PutUint32(database[16:], 0xED0CDAED)
	var file bytes.Buffer
	w := snapshot.NewWriter(&file)
	_, _ = w.Write(database)
	_ = w.Finish()
	return file.Bytes()
}

// memberOf is the member that a call is for; ha-1 is the endpoint's.
func memberOf(ctx context.Context) string { return cmp.Or(askedFor(ctx), "ha-1") }

func (node *fakeEtcd) Nodes(context.Context, *cluster.NodesRequest) (*cluster.NodesResponse, error) {
	return &cluster.NodesResponse{Nodes: []*cluster.Node{
		{Name: "ha-1", ControlPlane: true}, {Name: "ha-2", ControlPlane: true}, {Name: "ha-9"},
	}}, nil
}

func (node *fakeEtcd) Recover(stream grpc.ClientStreamingServer[cluster.RecoverRequest, cluster.RecoverResponse]) error {
	if node.err != nil {
		return node.err
	}
	if err := each(stream, func(request *cluster.RecoverRequest) error {
		node.largest = max(node.largest, len(request.GetChunk()))
		node.recovered.Write(request.GetChunk())
		return nil
	}); err != nil {
		return err
	}
	return stream.SendAndClose(&cluster.RecoverResponse{Keys: 7, Revision: 12345})
}

func (node *fakeEtcd) Members(context.Context, *etcd.MembersRequest) (*etcd.MembersResponse, error) {
	return node.members, nil
}

func (node *fakeEtcd) Status(ctx context.Context, _ *etcd.StatusRequest) (*etcd.StatusResponse, error) {
	name := memberOf(ctx)
	if name == "ha-3" {
		return nil, status.Error(codes.Unavailable, "node ha-3 does not answer")
	}
	response := &etcd.StatusResponse{
		MemberId: "8e9e05c52164694d", Name: name, Version: "3.7.0", Leader: name == "ha-1", LeaderId: "8e9e05c52164694d",
		RaftTerm: 4, RaftIndex: 5012, RaftAppliedIndex: 5011, DbSize: 40 << 20, DbSizeInUse: 10 << 20, DbQuota: 4 << 30,
	}
	if name == "ha-1" && node.problem != "" {
		response.Problems = []string{node.problem}
		response.Events = []*etcd.Event{{Time: timestamppb.New(testNow.Add(-3 * time.Minute)), Message: "ha-2 votes now"}}
	}
	return response, nil
}

func (node *fakeEtcd) Remove(_ context.Context, request *etcd.RemoveRequest) (*etcd.RemoveResponse, error) {
	if !request.GetForce() && node.err != nil {
		return nil, node.err
	}
	node.did = append(node.did, "remove "+request.GetMember())
	return &etcd.RemoveResponse{}, nil
}

func (node *fakeEtcd) Leave(_ context.Context, request *etcd.LeaveRequest) (*etcd.LeaveResponse, error) {
	if !request.GetForce() && node.err != nil {
		return nil, node.err
	}
	node.did = append(node.did, "leave")
	return &etcd.LeaveResponse{}, nil
}

func (node *fakeEtcd) ForfeitLeadership(context.Context, *etcd.ForfeitLeadershipRequest) (*etcd.ForfeitLeadershipResponse, error) {
	return &etcd.ForfeitLeadershipResponse{Leader: node.leader}, node.err
}

func (node *fakeEtcd) Defragment(ctx context.Context, _ *etcd.DefragmentRequest) (*etcd.DefragmentResponse, error) {
	if node.err != nil {
		return nil, node.err
	}
	node.did = append(node.did, "defrag "+memberOf(ctx))
	return &etcd.DefragmentResponse{Before: 40 << 20, After: 10 << 20, Took: durationpb.New(1234567 * time.Microsecond)}, nil
}

func (node *fakeEtcd) Alarms(_ context.Context, request *etcd.AlarmsRequest) (*etcd.AlarmsResponse, error) {
	if request.GetDisarm() {
		node.did = append(node.did, "disarm")
	}
	return &etcd.AlarmsResponse{Alarms: node.alarms}, nil
}

func (node *fakeEtcd) Snapshot(request *etcd.SnapshotRequest, stream grpc.ServerStreamingServer[etcd.SnapshotResponse]) error {
	first := &etcd.SnapshotResponse{Size: int64(len(node.snapshot)), Revision: 12345, Version: "3.7.0"}
	switch request.GetName() {
	case "":
	case "20261120T040000Z-r11000.db":
		first.Revision, first.Version = 11000, ""
	default:
		return status.Errorf(codes.NotFound, "no snapshot %q is kept on this node", request.GetName())
	}
	if err := stream.Send(first); err != nil {
		return err
	}
	for rest := node.snapshot[:len(node.snapshot)-node.cut]; len(rest) > 0; {
		count := min(len(rest), 256<<10)
		if err := stream.Send(&etcd.SnapshotResponse{Chunk: rest[:count]}); err != nil {
			return err
		}
		rest = rest[count:]
	}
	return node.err
}

func (node *fakeEtcd) Snapshots(ctx context.Context, _ *etcd.SnapshotsRequest) (*etcd.SnapshotsResponse, error) {
	if memberOf(ctx) == "ha-3" {
		return nil, errors.New("not asked for")
	}
	return &etcd.SnapshotsResponse{Problem: node.problem, Snapshots: []*etcd.KeptSnapshot{
		{
			Name: "20261120T100000Z-r12345.db", Time: timestamppb.New(testNow.Add(-2 * time.Hour)),
			Size: 40 << 20, Revision: 12345, Intact: true, Stored: true,
		},
		{Name: "20261120T040000Z-r11000.db", Time: timestamppb.New(testNow.Add(-8 * time.Hour)), Size: 39 << 20, Revision: 11000},
	}}, nil
}
