package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
)

// caller is who makes a call, as proven by a certificate or a pairing code.
type caller struct {
	user  string
	roles []string
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
	switch {
	case now.After(cert.NotAfter):
		// The handshake checked this, but a connection may outlive a certificate.
		return caller{}, fmt.Errorf("the client certificate expired at %s: use a new one", cert.NotAfter.Format(time.RFC3339))
	case user == "":
		return caller{}, errors.New("the client certificate has no common name")
	case strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r > '~' }):
		// It travels in gRPC metadata and HTTP headers, which carry no others.
		return caller{}, errors.New("the client certificate's common name has other characters than printable ASCII")
	case strings.HasPrefix(user, "system:"):
		// Kubernetes is asked as this user: a reader named
		// system:kube-controller-manager would have that user's rights.
		return caller{}, fmt.Errorf("the client certificate's common name %q begins with system:, which is for Kubernetes' own components", user)
	}
	return caller{user: user, roles: cert.Subject.Organization}, nil
}

// kubernetesGroups are the Kubernetes groups that roles stand for. apid may
// impersonate these and no others.
var kubernetesGroups = map[string]string{
	roleAdmin:    "keelson:admin",
	roleOperator: "keelson:operator",
	roleReader:   "keelson:reader",
}

// impersonate tells the workload service as whom to ask Kubernetes. The API
// server itself adds system:authenticated.
func impersonate(ctx context.Context) (rest.ImpersonationConfig, error) {
	c, ok := callerFrom(ctx)
	if !ok {
		return rest.ImpersonationConfig{}, status.Error(codes.Unauthenticated, "the call was not admitted")
	}
	as := rest.ImpersonationConfig{UserName: c.user}
	for _, role := range c.roles {
		if group, ok := kubernetesGroups[role]; ok {
			as.Groups = append(as.Groups, group)
		}
	}
	if len(as.Groups) == 0 {
		return as, status.Errorf(codes.PermissionDenied, "user %q has no role that Kubernetes knows", c.user)
	}
	return as, nil
}
