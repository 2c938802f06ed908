package client

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/keelson-os/keelson/pkg/identity"
)

// Node returns a client whose calls another node answers: the one of that name
// or address. They go over this client's connection, and the node at its other
// end, a control-plane node, passes them on. Close of either ends both.
func (client *Client) Node(node string) *Client {
	conn := client.conn
	if through, ok := conn.(throughNode); ok {
		conn = through.ClientConnInterface
	}
	return newClient(throughNode{conn, node}, client.closer)
}

// throughNode says with every call which node is to answer it.
type throughNode struct {
	grpc.ClientConnInterface
	node string
}

func (conn throughNode) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	return conn.ClientConnInterface.Invoke(conn.address(ctx), method, request, response, options...)
}

func (conn throughNode) NewStream(ctx context.Context, stream *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	return conn.ClientConnInterface.NewStream(conn.address(ctx), stream, method, options...)
}

// address is the call with the node's name on it.
func (conn throughNode) address(ctx context.Context) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	sent = sent.Copy()
	sent.Set(identity.MetadataNode, conn.node)
	return metadata.NewOutgoingContext(ctx, sent)
}

// Options returns how to dial for calls to a node: that node itself, if it is
// behind an endpoint or is given as HOST:PORT, else any endpoint. The empty name
// means any endpoint too.
func (context *Context) Options(node string) Options {
	options := Options{CA: []byte(context.CA), Cert: []byte(context.Cert), Key: []byte(context.Key)}
	if endpoint := context.endpointOf(node); endpoint != "" {
		options.Endpoint = endpoint
	} else if len(context.Endpoints) > 0 {
		options.Endpoint, options.Fallbacks = context.Endpoints[0], context.Endpoints[1:]
	}
	return options
}

// Through tells whether Options dials another node than the one named, which
// then has to be asked for by Client.Node.
func (context *Context) Through(node string) bool {
	return node != "" && context.endpointOf(node) == ""
}

// endpointOf returns where the node itself is dialled; "" if only through
// others.
func (context *Context) endpointOf(node string) string {
	if node == "" {
		return ""
	}
	if index := slices.Index(context.Nodes, node); index >= 0 && index < len(context.Endpoints) {
		return context.Endpoints[index]
	}
	if _, _, err := net.SplitHostPort(node); err == nil {
		return node
	}
	asked, err := WithPort(node)
	if err != nil {
		return ""
	}
	for _, endpoint := range context.Endpoints {
		if address, err := WithPort(endpoint); err == nil && address == asked {
			return endpoint
		}
	}
	return ""
}
