package main

import (
	"context"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// Defragment implements EtcdService.
func (a *admin) Defragment(context.Context, *etcdapi.DefragmentRequest) (*etcdapi.DefragmentResponse, error) {
	m, err := a.member()
	if err != nil {
		return nil, err
	}
	before, after, took, err := a.defragment(m)
	if err != nil {
		return nil, err
	}
	return &etcdapi.DefragmentResponse{Before: before, After: after, Took: durationpb.New(took)}, nil
}

// errRewriting refuses a defragmentation that would not end soon.
var errRewriting = status.Error(codes.FailedPrecondition,
	"this member's database is being defragmented already, or a snapshot of it is read: try again when that has ended")

// defragment rewrites the database, which nobody can read or write meanwhile.
// It cannot be cut short, and only one runs at a time.
func (a *admin) defragment(m *member) (before, after int64, took time.Duration, err error) {
	if !a.rewriting.TryLock() {
		return 0, 0, 0, errRewriting
	}
	defer a.rewriting.Unlock()
	began := time.Now()
	before = m.Server.Backend().Size()
	if err := m.Server.Defragment(); err != nil {
		return 0, 0, 0, status.Errorf(codes.Internal, "defragment the database: %v", err)
	}
	after, took = m.Server.Backend().Size(), time.Since(began)
	a.log.Info("defragmented the database", zap.Int64("before", before), zap.Int64("after", after), zap.Duration("took", took))
	return before, after, took, nil
}

// Alarms implements EtcdService.
func (a *admin) Alarms(ctx context.Context, request *etcdapi.AlarmsRequest) (*etcdapi.AlarmsResponse, error) {
	m, err := a.member()
	if err != nil {
		return nil, err
	}
	response := &etcdapi.AlarmsResponse{}
	for _, each := range m.Server.Alarms() {
		response.Alarms = append(response.Alarms, &etcdapi.Alarm{Member: m.nameOf(types.ID(each.MemberID)), Alarm: each.Alarm.String()})
	}
	if !request.GetDisarm() || len(response.Alarms) == 0 {
		return response, nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	// The zero member is every alarm of every member.
	if _, err := m.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return nil, a.explain(m, "take the alarms back", err)
	}
	a.log.Info("took alarms back", zap.Int("alarms", len(response.Alarms)))
	return response, nil
}
