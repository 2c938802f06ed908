package main

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/pki"
)

// grpcError is what a call returned.
type grpcError interface {
	error
	GRPCStatus() *status.Status
}

// explain turns a call's error, wherever it is wrapped, into one sentence that
// says what to do next. Other errors stay as they are.
func (app *app) explain(err error) string {
	var inner grpcError
	if !errors.As(err, &inner) {
		return err.Error()
	}
	return strings.Replace(err.Error(), inner.Error(), app.sentence(inner.GRPCStatus()), 1)
}

func (app *app) sentence(state *status.Status) string {
	message := state.Message()
	switch state.Code() {
	case codes.Unavailable:
		if reason, ours := client.ConnectionReason(message); ours {
			return app.unreachable(reason)
		}
	case codes.PermissionDenied:
		return message + app.ownRoles()
	case codes.Unauthenticated:
		return "the node does not accept who you are: " + message
	case codes.DeadlineExceeded:
		return app.endpointName() + " did not answer in time: is the node overloaded, or on its way down? (osctl status)"
	case codes.Unimplemented:
		return "the node does not know this call: it runs another version than osctl (osctl version): " + message
	case codes.Canceled:
		return "the call was cancelled"
	case codes.ResourceExhausted:
		if strings.Contains(message, "larger than max") {
			return "too much for one call: give fewer or smaller files (" + message + ")"
		}
	}
	return message
}

// unreachable says what to check for each way a connection can fail.
func (app *app) unreachable(reason string) string {
	advice := "check that the node runs (osctl cluster status) and that the endpoint is right (osctl config info)"
	switch {
	case strings.Contains(reason, "fingerprint"):
		return app.endpointName() + ": " + reason
	case strings.Contains(reason, "unknown authority"), strings.Contains(reason, "ECDSA verification failure"):
		advice = "the node belongs to another cluster than the context, or is in maintenance mode: choose the context (osctl config use), or read the node's console"
	case strings.Contains(reason, "no such host"):
		advice = "name a node of the context (osctl config info lists them), or HOST[:PORT]"
	case strings.Contains(reason, "tls: expired certificate"), strings.Contains(reason, "has expired"):
		advice = "a certificate has expired, or a clock is wrong: see osctl config info"
	case strings.Contains(reason, "remote error: tls"):
		advice = "the node does not accept the context's certificate: it is of another cluster, or has expired (osctl config info)"
	}
	return fmt.Sprintf("the node's API at %s cannot be reached: %s: %s", app.endpointName(), reason, advice)
}

func (app *app) endpointName() string {
	if app.dialled == nil {
		return "the node"
	}
	return strings.Join(append([]string{app.dialled.Endpoint}, app.dialled.Fallbacks...), ", ")
}

// ownRoles says which roles the refused certificate has.
func (app *app) ownRoles() string {
	if app.dialled == nil || len(app.dialled.Cert) == 0 {
		return ""
	}
	cert, err := pki.ParseCert(app.dialled.Cert)
	if err != nil {
		return ""
	}
	roles := strings.Join(cert.Subject.Organization, ", ")
	if roles == "" {
		return " (your certificate has no role)"
	}
	return fmt.Sprintf(" (your certificate's roles: %s)", roles)
}
