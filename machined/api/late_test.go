package api

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/keelson-os/keelson/pkg/api/machine"
)

// A call that is not passed on would be answered as one that the node does not
// know.
func TestEveryImageCallIsPassedOn(t *testing.T) {
	// Spread is apid's own.
	own := map[string]bool{"Spread": true}
	services := &lateImages{late: &late{node: &fakeNode{status: &machine.StatusResponse{Phase: "storage"}}}}
	for _, method := range image.ImageService_ServiceDesc.Methods {
		if own[method.MethodName] {
			continue
		}
		_, err := method.Handler(services, context.Background(), func(any) error { return nil }, nil)
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s before there are images: %v", method.MethodName, err)
		}
	}
}
