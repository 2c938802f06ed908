package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
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
	// via is the node that passes the call on; empty when the caller made it.
	via string
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

// clientChain returns the certificate that the client's connection was verified
// with, and after it those up to the CA's.
func clientChain(ctx context.Context) ([]*x509.Certificate, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errors.New("the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, errors.New("the connection has no verified client certificate")
	}
	return info.State.VerifiedChains[0], nil
}

// identifyAny reads the caller from the certificate or, where that is another
// node's, from what it sent. With an error the caller is what was claimed, for
// the log.
func identifyAny(chain []*x509.Certificate, sent metadata.MD, now time.Time) (caller, error) {
	cert := chain[0]
	if slices.Contains(cert.Subject.Organization, identity.Forwarder) {
		return identifyForwarded(chain, sent, now)
	}
	return identify(cert, now)
}

// identify reads the caller from a verified certificate. It refuses names that
// would mean something else further inside.
func identify(cert *x509.Certificate, now time.Time) (caller, error) {
	c := caller{user: cert.Subject.CommonName, roles: cert.Subject.Organization, until: cert.NotAfter}
	if now.After(cert.NotAfter) {
		// The handshake checked this, but a connection may outlive a certificate.
		return c, fmt.Errorf("the client certificate expired at %s: use a new one", cert.NotAfter.Format(time.RFC3339))
	}
	if err := identity.CheckUser(c.user); err != nil {
		return c, fmt.Errorf("the client certificate's common name cannot be used: %w", err)
	}
	return c, nil
}

// identifyForwarded reads the caller from what the apid of a control-plane node
// says of whom it calls for. Its own certificate has no role: a call for nobody
// may do nothing.
func identifyForwarded(chain []*x509.Certificate, sent metadata.MD, now time.Time) (caller, error) {
	cert, ca := chain[0], chain[len(chain)-1]
	c := caller{roles: sent.Get(identity.MetadataRole), via: cert.Subject.CommonName}
	if c.via == "" { // which would mean that nobody passed the call on
		return c, errors.New("the certificate of a node that passes calls on names no node")
	}
	users, untils := sent.Get(identity.MetadataUser), sent.Get(identity.MetadataUntil)
	if now.After(cert.NotAfter) {
		return c, fmt.Errorf("the certificate of %s, which passes calls on, expired at %s", c.via, cert.NotAfter.Format(time.RFC3339))
	}
	if len(users) != 1 || len(untils) != 1 || len(c.roles) == 0 {
		return c, fmt.Errorf("%s passes a call on and does not say for whom", c.via)
	}
	c.user = users[0]
	if err := checkClaim(c); err != nil {
		return c, fmt.Errorf("%s passes a call on for one who cannot be: %w", c.via, err)
	}
	var err error
	c.until, err = time.Parse(time.RFC3339, untils[0])
	switch {
	case err != nil:
		return c, fmt.Errorf("%s passes a call on for %q and does not say until when", c.via, c.user)
	case now.After(c.until):
		return c, fmt.Errorf("the client certificate expired at %s: use a new one", c.until.Format(time.RFC3339))
	case c.until.After(ca.NotAfter):
		return c, fmt.Errorf("%s passes a call on for %q until %s, after the end of the CA", c.via, c.user, untils[0])
	}
	return c, nil
}

// checkClaim bounds what another node says of a caller, and holds it to what a
// certificate may say.
func checkClaim(c caller) error {
	const maxUser, maxRoles, maxRole = 256, 32, 128
	if len(c.user) > maxUser || len(c.roles) > maxRoles {
		return fmt.Errorf("a name of %d characters and %d roles are too many", len(c.user), len(c.roles))
	}
	for _, role := range c.roles {
		if role == "" || len(role) > maxRole || role == identity.Forwarder {
			return fmt.Errorf("%.*q is no role", maxRole, role)
		}
	}
	return identity.CheckUser(c.user)
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
