package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/version"
)

// admit decides whether a call goes on, and as whom. It logs what it refuses.
type admit func(ctx context.Context, method string) (caller, error)

// route finds the other node that an admitted call is for; nil when it is this
// one.
type route func(ctx context.Context) (*otherNode, error)

// entry stands before every handler, those of this process and the router.
type entry struct {
	admit admit
	// route is nil where no call goes elsewhere.
	route route
	log   *slog.Logger
}

func (e entry) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	c, err := e.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	defer e.recover(info.FullMethod, &err)
	ctx = withCaller(ctx, c)
	if e.route == nil {
		return handler(ctx, request)
	}
	to, err := e.route(ctx)
	if err != nil {
		return nil, err
	}
	if to == nil {
		return handler(ctx, request)
	}
	defer to.release()
	return passUnary(ctx, request, to, info.FullMethod)
}

func (e entry) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	c, err := e.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	defer e.recover(info.FullMethod, &err)
	ctx := withCaller(stream.Context(), c)
	if c.until.IsZero() {
		return e.handle(service, &admittedStream{stream, ctx}, info, handler)
	}
	// What follows a log, or a shell, would go on for ever otherwise.
	ctx, cancel := context.WithDeadline(ctx, c.until)
	defer cancel()
	err = e.handle(service, &admittedStream{stream, ctx}, info, handler)
	if ctx.Err() != nil && stream.Context().Err() == nil {
		return status.Error(codes.Unauthenticated, "the client certificate expired during the call: use a new one")
	}
	return err
}

// handle passes a stream to its handler, or to the node that it is for.
func (e entry) handle(service any, stream *admittedStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if e.route == nil {
		return handler(service, stream)
	}
	to, err := e.route(stream.ctx)
	if err != nil {
		return err
	}
	if to == nil {
		return handler(service, stream)
	}
	defer to.release()
	return pass(stream, to, info.FullMethod)
}

// recover turns a handler's panic into an error of this one call: the calls of
// other clients go on.
func (e entry) recover(method string, err *error) {
	if p := recover(); p != nil {
		e.log.Error("handler panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "%s failed inside apid; its log (osctl logs apid) says where", method)
	}
}

// admittedStream is a stream whose context tells the caller.
type admittedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *admittedStream) Context() context.Context { return s.ctx }

// requireRole admits callers whose verified certificate carries a role that the
// table names for the method, and those for whom another node of the cluster
// says so.
func requireRole(table map[string][]string, log *slog.Logger) admit {
	return func(ctx context.Context, method string) (caller, error) {
		chain, err := clientChain(ctx)
		if err != nil {
			log.Warn("call refused", "method", method, "remote", remote(ctx), "reason", err)
			return caller{}, status.Error(codes.Unauthenticated, err.Error())
		}
		sent, _ := metadata.FromIncomingContext(ctx)
		c, err := identifyAny(chain, sent, time.Now())
		who := slog.Group("client", clientAttributes(ctx, c, chain[0])...)
		if err != nil {
			log.Warn("call refused", who, "method", method, "reason", err)
			return caller{}, status.Error(codes.Unauthenticated, err.Error())
		}
		needed, err := authorize(table, c, method)
		if err != nil {
			log.Warn("call refused", who, "method", method, "needed", needed)
			return caller{}, err
		}
		if !slices.Contains(needed, identity.Reader) {
			// Whatever a reader may not do changes something: keep who did it.
			attributes := []any{who, "method", method}
			if node, err := askedNode(ctx); err == nil && node != "" { // others are refused
				attributes = append(attributes, "node", node)
			}
			log.Info("call admitted", attributes...)
		}
		return c, nil
	}
}

// clientAttributes are what a log says of a caller, who may be unknown. The
// serial number and the address are those of the node that passed a call on.
func clientAttributes(ctx context.Context, c caller, cert *x509.Certificate) []any {
	attributes := []any{"name", c.user, "roles", c.roles, "serial", cert.SerialNumber.Text(16), "remote", remote(ctx)}
	if c.via != "" {
		attributes = append(attributes, "via", c.via)
	}
	return attributes
}

// authorize looks the method up in the table; it also returns the roles any
// one of which is needed.
func authorize(table map[string][]string, c caller, method string) (needed []string, err error) {
	needed, known := table[method]
	if !known {
		return nil, status.Errorf(codes.Unimplemented, "this node runs Keelson %s, which has no method %s", version.Version, method)
	}
	for _, role := range c.roles {
		if slices.Contains(needed, role) {
			return needed, nil
		}
	}
	has := "no role"
	if len(c.roles) > 0 {
		has = strings.Join(c.roles, ", ")
	}
	return needed, status.Errorf(codes.PermissionDenied, "user %q has %s; %s needs %s",
		c.user, has, method, strings.Join(needed, " or "))
}

func remote(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return "unknown"
}
