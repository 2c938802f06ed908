package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestWhy(t *testing.T) {
	request := func(err error) error { return &url.Error{Op: "Get", URL: "https://10.0.0.5:2379/readyz", Err: err} }
	dial := func(err error) error {
		return request(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
	}
	for want, err := range map[string]error{
		"connection refused":   dial(syscall.ECONNREFUSED),
		"no route to it":       dial(syscall.EHOSTUNREACH),
		"no answer within 5s":  request(context.DeadlineExceeded),
		"something else":       request(errors.New("something else")),
		"lookup cp-1: no host": request(&net.OpError{Op: "dial", Err: &net.DNSError{Name: "cp-1", Err: "no host"}}),
		Foreign:                request(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}),
	} {
		if got := Why(fmt.Errorf("ask: %w", err), 5*time.Second); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if !IsForeign(request(&net.OpError{Op: "remote error", Err: errors.New("tls: unknown certificate authority")})) {
		t.Error("a refusal by the far side was not told")
	}
}
