package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/machined/etcd"
	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

const (
	// forfeitTime bounds the handing over of etcd's leadership: without it the
	// others find out by themselves.
	forfeitTime = 5 * time.Second
	// leaveTime bounds the leaving of etcd, for which its process may take ten
	// seconds.
	leaveTime = 30 * time.Second
	// removedTime is how long a member that was removed may take to notice it.
	removedTime = 5 * time.Second
	removedPoll = 200 * time.Millisecond
)

// askEtcd calls this node's etcd process.
func askEtcd[T any](ctx context.Context, call func(context.Context, etcdapi.EtcdServiceClient) (T, error)) (answer T, err error) {
	// The socket's owner and mode say who may connect.
	conn, err := grpc.NewClient("unix:"+etcd.AdminSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return answer, fmt.Errorf("prepare the connection to etcd: %w", err)
	}
	defer conn.Close()
	return call(ctx, etcdapi.NewEtcdServiceClient(conn))
}

// words is what etcd's process said, without gRPC's around it.
func words(err error) string { return status.Convert(err).Message() }

// memberState is what a reset has to know of this node's etcd.
type memberState struct {
	// self is its ID; empty when it runs no member.
	self    string
	members []*etcdapi.Member
}

func askMembers(ctx context.Context) (memberState, error) {
	return askEtcd(ctx, func(ctx context.Context, client etcdapi.EtcdServiceClient) (memberState, error) {
		own, err := client.Status(ctx, &etcdapi.StatusRequest{})
		if err != nil {
			return memberState{}, err
		}
		all, err := client.Members(ctx, &etcdapi.MembersRequest{})
		return memberState{self: own.GetMemberId(), members: all.GetMembers()}, err
	})
}

// refuseLeaving says why the others could not do without this member; empty when
// they can. The process itself decides once more when the node leaves.
func refuseLeaving(state memberState) string {
	voters, answering := 0, 0
	votes := false
	for _, member := range state.members {
		switch {
		case member.GetId() == state.self:
			votes = !member.GetLearner()
		case !member.GetLearner():
			voters++
			if member.GetReachable() {
				answering++
			}
		}
	}
	switch needed := voters/2 + 1; {
	case !votes:
		return ""
	case voters == 0:
		return "this node has the only copy of the cluster's data: osctl reset --force ends the cluster"
	case answering < needed:
		return fmt.Sprintf("without this node %d of %d etcd members would answer and %d must: bring the others back, "+
			"or remove those that are gone (osctl etcd remove); osctl reset --force resets it all the same, and the cluster stops", answering, voters, needed)
	}
	return ""
}

// checkLeaving tells whether this control-plane node may leave etcd.
func checkLeaving(ctx context.Context) error {
	if member, err := etcd.IsMember(); err != nil || !member {
		return err
	}
	state, err := askMembers(ctx)
	if err != nil {
		return fmt.Errorf("it is not known whether the others can do without this node's etcd member (%s): "+
			"osctl reset --force resets it all the same; then remove its member on another node (osctl etcd remove)", words(err))
	}
	if refusal := refuseLeaving(state); refusal != "" {
		return errors.New(refusal)
	}
	return nil
}

// leaveEtcd takes this node's member out.
func leaveEtcd(ctx context.Context, force bool) error {
	if member, err := etcd.IsMember(); err != nil || !member {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	_, err := askEtcd(ctx, func(ctx context.Context, client etcdapi.EtcdServiceClient) (*etcdapi.LeaveResponse, error) {
		return client.Leave(ctx, &etcdapi.LeaveRequest{Force: force})
	})
	if err == nil || status.Code(err) == codes.Unavailable && isRemoved(ctx) {
		return nil
	}
	return fmt.Errorf("leave etcd: %s", words(err))
}

// isRemoved tells whether the member was removed after all: its process ends
// then, perhaps before it has answered.
func isRemoved(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, removedTime)
	defer cancel()
	for {
		if member, err := etcd.IsMember(); err == nil && !member {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(removedPoll):
		}
	}
}
