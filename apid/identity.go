package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"

	"github.com/keelson-os/keelson/pkg/identity"
)

// caller is who makes a call, as proven by a certificate or a pairing code.
type caller struct {
	user  string
	roles []string
	// until is when the certificate expires; zero for a pairing code.
	until time.Time
}

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerFrom returns whom entry admitted; false outside of an admitted call.
func callerFrom(ctx context.Context) (caller, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c, ok
}

// clientCertificate returns the certificate that the client's connection was
// verified with.
func clientCertificate(ctx context.Context) (*x509.Certificate, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errors.New("the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, errors.New("the connection has no verified client certificate")
	}
	return info.State.VerifiedChains[0][0], nil
}

// identify reads the caller from a verified certificate. It refuses names that
// would mean something else further inside.
func identify(cert *x509.Certificate, now time.Time) (caller, error) {
	user := cert.Subject.CommonName
	if now.After(cert.NotAfter) {
		// The handshake checked this, but a connection may outlive a certificate.
		return caller{}, fmt.Errorf("the client certificate expired at %s: use a new one", cert.NotAfter.Format(time.RFC3339))
	}
	if err := identity.CheckUser(user); err != nil {
		return caller{}, fmt.Errorf("the client certificate's common name cannot be used: %w", err)
	}
	return caller{user: user, roles: cert.Subject.Organization, until: cert.NotAfter}, nil
}

// impersonate tells the workload service as whom to ask Kubernetes. The API
// server itself adds system:authenticated.
func impersonate(ctx context.Context) (rest.ImpersonationConfig, error) {
	c, ok := callerFrom(ctx)
	if !ok {
		return rest.ImpersonationConfig{}, status.Error(codes.Unauthenticated, "the call was not admitted")
	}
	groups := identity.Groups(c.roles)
	if len(groups) == 0 {
		return rest.ImpersonationConfig{}, status.Errorf(codes.PermissionDenied, "user %q has no role that Kubernetes knows", c.user)
	}
	return rest.ImpersonationConfig{UserName: c.user, Groups: groups}, nil
}
