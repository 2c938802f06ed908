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

// director chooses the backend that answers a call. Here is the place to send
// a call to another node's apid, chosen by what the client's metadata asks for.
type director func(method string, asked metadata.MD) (backend, error)

// backend is a process that calls are forwarded to.
type backend interface {
	grpc.ClientConnInterface
	// explain makes an error of the connection readable for whoever called.
	explain(error) error
}

// router forwards calls without knowing their messages.
type router struct {
	direct director
}

// anyCall describes a call whose kind is not known: a unary call is a stream of
// one message each way.
var anyCall = grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// forward connects the client's stream to one of a backend. The backend sees
// the client's deadline and cancellation through the context; each direction
// reads a message only after it has passed on the one before, so HTTP/2's flow
// control reaches from one end to the other and apid holds no queue.
func (r *router) forward(_ any, front grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(front)
	if !ok {
		return status.Error(codes.Internal, "the call has no method")
	}
	who, ok := callerFrom(front.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "the call was not admitted")
	}
	asked, _ := metadata.FromIncomingContext(front.Context())
	to, err := r.direct(method, asked)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(metadata.NewOutgoingContext(front.Context(), passOn(asked, who)))
	defer cancel(nil)
	back, err := to.NewStream(ctx, &anyCall, method)
	if err != nil {
		return to.explain(err)
	}
	// Ends with front's context at the latest, which gRPC ends when this
	// function returns.
	go passRequests(front, back, cancel)
	err = passResponses(back, front)
	if refused := context.Cause(ctx); refused != nil && front.Context().Err() == nil {
		return refused
	}
	return to.explain(err)
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

// passOn is the metadata for the backend: the client's, without what only apid
// may say, and who the client is.
func passOn(asked metadata.MD, who caller) metadata.MD {
	md := make(metadata.MD, len(asked)+3)
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
	return md
}
