package api

import (
	"context"
	"net/netip"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
)

// echoJoiner answers with where the call came from.
type echoJoiner struct{}

func (echoJoiner) Join(_ context.Context, remote netip.Addr, _ *join.JoinRequest) (*join.JoinResponse, error) {
	text, err := remote.MarshalText()
	return &join.JoinResponse{Certificates: [][]byte{text}}, err
}

func TestJoinComesLateAndTellsStrangersNothing(t *testing.T) {
	s := serve(t)
	s.node.status = &machine.StatusResponse{Phase: "storage", Problems: []string{"the disk /dev/vda holds foreign data"}}
	client := join.NewJoinServiceClient(s)
	_, err := client.Join(deadline(t), &join.JoinRequest{})
	refused(t, err, codes.Unavailable, "rpc error: code = Unavailable desc = this node does not let others join yet: it is starting; try again in some seconds")

	s.server.SetJoiner(echoJoiner{})
	for value, want := range map[string]string{"10.0.0.9": "10.0.0.9", "fd00::9": "fd00::9", "": "", "nowhere": ""} {
		ctx := metadata.AppendToOutgoingContext(deadline(t), identity.MetadataRemote, value)
		answer, err := client.Join(ctx, &join.JoinRequest{})
		must(t, err)
		if got := string(answer.GetCertificates()[0]); got != want {
			t.Errorf("remote %q arrives as %q", value, got)
		}
	}
	twice := metadata.AppendToOutgoingContext(deadline(t), identity.MetadataRemote, "10.0.0.9", identity.MetadataRemote, "10.0.0.8")
	if answer, err := client.Join(twice, &join.JoinRequest{}); err != nil || len(answer.GetCertificates()[0]) != 0 {
		t.Errorf("with two remotes: %v, %v", answer, err)
	}

	s.server.SetJoiner(JoinElsewhere{})
	_, err = client.Join(deadline(t), &join.JoinRequest{})
	refused(t, err, codes.FailedPrecondition, "ask a control-plane node")
}
