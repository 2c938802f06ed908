package main

import (
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
	c := candidate{kv: m.client, key: seatPrefix + request.GetName(), name: a.flags.name}
	return c.run(stream.Context(), func(holder string, until time.Time) error {
		response := &etcdapi.CampaignResponse{HolderName: holder}
		if left := time.Until(until); left > 0 {
			response.Holder, response.ValidFor = true, durationpb.New(left)
		}
		return stream.Send(response)
	})
}
