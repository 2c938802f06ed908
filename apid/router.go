package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/identity"
)

// backend is a process that calls are forwarded to.
type backend interface {
	grpc.ClientConnInterface
	// node is the name of the other node that the backend is; "" for a process
	// of this one.
	node() string
	// explain makes an error of the connection readable for whoever called. begun
	// tells that it is of a call under way.
	explain(err error, begun bool) error
}

// router forwards calls without knowing their messages.
type router struct {
	direct func(method string) backend
}

// anyCall describes a call whose kind is not known: a unary call is a stream of
// one message each way.
var anyCall = grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// forward sends a call to the process of this node that answers it.
func (r *router) forward(_ any, front grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(front)
	if !ok {
		return status.Error(codes.Internal, "the call has no method")
	}
	return pass(front, r.direct(method), method)
}

// pass connects the client's stream to one of a backend. The backend sees the
// client's deadline and cancellation through the context; each direction reads
// a message only after it has passed on the one before, so HTTP/2's flow control
// reaches from one end to the other and apid holds no queue.
func pass(front grpc.ServerStream, to backend, method string) error {
	outgoing, err := passOn(front.Context(), to.node())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(outgoing)
	defer cancel(nil)
	back, err := to.NewStream(ctx, &anyCall, method)
	if err != nil {
		return to.explain(err, false)
	}
	// Ends with front's context at the latest, which gRPC ends when this
	// function returns.
	go passRequests(front, back, cancel)
	err = passResponses(back, front)
	if refused := context.Cause(ctx); refused != nil && front.Context().Err() == nil {
		return refused
	}
	return to.explain(err, true)
}

// passUnary is pass for a call whose request gRPC has read already.
func passUnary(ctx context.Context, request any, to backend, method string) (any, error) {
	outgoing, err := passOn(ctx, to.node())
	if err != nil {
		return nil, err
	}
	var response frame
	if err := to.Invoke(outgoing, method, request, &response); err != nil {
		return nil, to.explain(err, false)
	}
	return &response, nil
}

// passRequests cancels the backend's call when the client's requests fail, for
// example because one is too large.
func passRequests(front grpc.ServerStream, back grpc.ClientStream, cancel context.CancelCauseFunc) {
	for {
		var message frame
		if err := front.RecvMsg(&message); errors.Is(err, io.EOF) {
			// Its error, if any, is what passResponses receives.
			_ = back.CloseSend()
			return
		} else if err != nil {
			cancel(err)
			return
		}
		if back.SendMsg(&message) != nil {
			// The backend ended the call: passResponses receives its status.
			return
		}
	}
}

// passResponses returns the backend's status as an error, with its details.
func passResponses(back grpc.ClientStream, front grpc.ServerStream) error {
	header, err := back.Header()
	if err == nil && header != nil {
		if err := front.SendHeader(header); err != nil {
			return err
		}
	}
	for {
		var message frame
		if err := back.RecvMsg(&message); err != nil {
			front.SetTrailer(back.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := front.SendMsg(&message); err != nil {
			return err
		}
	}
}

// passOn is the context of a call to a backend.
func passOn(ctx context.Context, node string) (context.Context, error) {
	who, ok := callerFrom(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the call was not admitted")
	}
	asked, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, outgoing(asked, who, node)), nil
}

// outgoing is the metadata for a backend: the client's, without what only apid
// may say; who the client is; and for another node, whom the call is meant for.
func outgoing(asked metadata.MD, who caller, node string) metadata.MD {
	md := make(metadata.MD, len(asked)+4)
	for key, values := range asked {
		if !strings.HasPrefix(key, identity.MetadataPrefix) && !strings.HasPrefix(key, ":") {
			md[key] = values
		}
	}
	md.Set(identity.MetadataUser, who.user)
	md.Set(identity.MetadataRole, who.roles...)
	if !who.until.IsZero() {
		md.Set(identity.MetadataUntil, who.until.UTC().Format(time.RFC3339))
	}
	if node != "" {
		md.Set(identity.MetadataNode, node)
	}
	return md
}
