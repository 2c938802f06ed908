package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"syscall"
	"time"
)

// Foreign is said of one that does not show, or does not accept, a certificate
// of the cluster's CA.
const Foreign = "answers with a certificate of another cluster: its config or this node's is another cluster's"

// Why says why a request that had so much time failed, without repeating what
// it was.
func Why(err error, within time.Duration) string {
	var dns *net.DNSError
	var timeout net.Error
	var request *url.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.As(err, &dns):
		return dns.Error()
	case IsForeign(err):
		return Foreign
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + within.String()
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}

// IsForeign tells that one of the two sides refused the other's certificate.
func IsForeign(err error) bool {
	var ours *tls.CertificateVerificationError
	var theirs *net.OpError // crypto/tls keeps the type of a received alert to itself
	return errors.As(err, &ours) || errors.As(err, &theirs) && theirs.Op == "remote error"
}
