package client

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/pki"
)

func TestNodeIsAskedForWithEveryCall(t *testing.T) {
	ca := newCA(t)
	endpoint, _ := serve(t, ca, tls.RequireAndVerifyClientCert)
	ours := issue(t, ca, pki.Request{CommonName: "user", Client: true})
	client, err := Dial(t.Context(), Options{Endpoint: endpoint, CA: ca.KeyPair().Cert, Cert: ours.Cert, Key: ours.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "request-id", "7")
	for want, one := range map[string]*Client{"": client, "dev-2": client.Node("dev-2"), "dev-3": client.Node("dev-2").Node("dev-3")} {
		answer, err := one.Machine.Version(ctx, &machine.VersionRequest{})
		if err != nil || answer.GetHostname() != want || answer.GetKernel() != "7" {
			t.Errorf("the node was asked for %q, %q, %v, want %q", answer.GetHostname(), answer.GetKernel(), err, want)
		}
		events, err := one.Machine.Events(ctx, &machine.EventsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if event, err := events.Recv(); err != nil || event.GetSubject() != want {
			t.Errorf("the stream was asked of %q, %v, want %q", event.GetSubject(), err, want)
		}
	}
}

func TestOptionsChooseTheEndpoint(t *testing.T) {
	context := &Context{Endpoints: []string{"10.0.0.1:50000", "10.0.0.2:50000", "[fd00::3]:50000"}, Nodes: []string{"one", "two"}}
	first := Options{Endpoint: "10.0.0.1:50000", Fallbacks: []string{"10.0.0.2:50000", "[fd00::3]:50000"}}
	for _, test := range []struct {
		node    string
		want    Options
		through bool
	}{
		{"", first, false},
		{"two", Options{Endpoint: "10.0.0.2:50000"}, false},
		{"10.0.0.2", Options{Endpoint: "10.0.0.2:50000"}, false},
		{"fd00::3", Options{Endpoint: "[fd00::3]:50000"}, false},
		{"10.0.0.9:50000", Options{Endpoint: "10.0.0.9:50000"}, false},
		{"10.0.0.9", first, true},
		{"fd00::9", first, true},
		{"worker", first, true},
	} {
		got := context.Options(test.node)
		if got.Endpoint != test.want.Endpoint || !cmp.Equal(got.Fallbacks, test.want.Fallbacks) {
			t.Errorf("node %q: %q and %q, want %q and %q", test.node, got.Endpoint, got.Fallbacks, test.want.Endpoint, test.want.Fallbacks)
		}
		if context.Through(test.node) != test.through {
			t.Errorf("node %q: through another %v", test.node, !test.through)
		}
	}
}
