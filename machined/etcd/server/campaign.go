package main

import (
	"context"
	"errors"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// electionName is what an election may be called: a DNS label.
var electionName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Campaign implements EtcdService.
func (a *admin) Campaign(request *etcdapi.CampaignRequest, stream etcdapi.EtcdService_CampaignServer) error {
	if !electionName.MatchString(request.GetName()) {
		return status.Error(codes.InvalidArgument, "the name of an election is a DNS label, such as virtual-ip")
	}
	m, err := a.member()
	if err != nil {
		return err
	}
	// A member that stops takes no more part; machined asks the next one.
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-m.Server.StopNotify():
		case <-ctx.Done():
		}
	}()
	c := newCandidate(m.client, request.GetName(), a.flags.name)
	err = c.run(ctx, func(holder string, until time.Time) error {
		response := &etcdapi.CampaignResponse{HolderName: holder}
		if left := time.Until(until); left > 0 {
			response.Holder, response.ValidFor = true, durationpb.New(left)
		}
		return stream.Send(response)
	})
	if errors.Is(err, context.Canceled) && stream.Context().Err() == nil {
		return status.Error(codes.Unavailable, "etcd is stopping")
	}
	return err
}
