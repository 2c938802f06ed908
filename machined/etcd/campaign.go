package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// Campaign takes part in an election of the cluster's by the etcd process whose
// admin socket it is given, until ctx ends. The channel tells until when this
// node is the holder; a time that is past, as zero is, that it is not. It is
// closed when the campaign has ended, also by itself: then nobody keeps the
// holder's place any more. What was said before must then be forgotten.
func Campaign(ctx context.Context, socket, election string) (<-chan time.Time, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to etcd: %w", err)
	}
	stream, err := etcdapi.NewEtcdServiceClient(conn).Campaign(ctx, &etcdapi.CampaignRequest{Name: election})
	var first *etcdapi.CampaignResponse
	if err == nil {
		first, err = stream.Recv() // tells whether there is a member at all
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stand for election: %s", status.Convert(err).Message()), conn.Close())
	}
	holds := make(chan time.Time)
	go func() {
		defer conn.Close()
		defer close(holds)
		for response := first; err == nil; response, err = stream.Recv() {
			var until time.Time
			if response.GetHolder() {
				until = time.Now().Add(response.GetValidFor().AsDuration())
			}
			select {
			case holds <- until:
			case <-ctx.Done():
				return
			}
		}
	}()
	return holds, nil
}
