package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestExplain(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{
		DNSNames: []string{"cp-2"}, IPAddresses: []net.IP{{10, 0, 0, 6}},
		NotBefore: now.Add(24 * time.Hour), NotAfter: now.Add(48 * time.Hour),
	}
	unverifiedAs := func(err error) error { return fmt.Errorf("handshake: %w", &tls.CertificateVerificationError{Err: err}) }
	for _, test := range []struct {
		err  error
		kind kind
		says string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, unreached, "connection refused"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, unreached, "no route to host"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, unreached, "no answer within 10s"},
		{context.DeadlineExceeded, unreached, "no answer within 10s"},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), unreached, "no answer within 10s"},
		{&net.DNSError{Err: "no such host", Name: "cp"}, unreached, "the name does not resolve: no such host"},
		{io.EOF, unreached, "the connection was closed"},
		{errors.New("tls: something else"), unreached, "tls: something else"},
		{status.Error(codes.Unavailable, "Kubernetes cannot be asked"), unreached, "Kubernetes cannot be asked"},
		{status.Error(codes.Unauthenticated, "wrong token"), refused, "wrong token"},
		{status.Error(codes.FailedPrecondition, "a config of another cluster"), refused, "a config of another cluster"},
		{status.Error(codes.AlreadyExists, "taken"), refused, "taken"},
		{status.Error(codes.ResourceExhausted, "too many"), refused, "too many"},
		{unverifiedAs(x509.UnknownAuthorityError{Cert: cert}), unverified, "not a node of this cluster"},
		{unverifiedAs(x509.HostnameError{Certificate: cert, Host: "10.0.0.5"}), unverified, "not for 10.0.0.5, only for [cp-2 10.0.0.6]: ask for one of those"},
		{unverifiedAs(x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}), unverified,
			"valid from 2026-11-21T12:00:00Z to 2026-11-22T12:00:00Z, and this node's clock says 2026-11-20T12:00:00Z: set the clock"},
	} {
		kind, text := explain(test.err, now)
		if kind != test.kind || !strings.Contains(text, test.says) {
			t.Errorf("%v: kind %d, %q; want %d, %q", test.err, kind, text, test.kind, test.says)
		}
	}
}

// The API tells texts of valid UTF-8 only, and nothing beside one that is not.
func TestShortenedTextIsText(t *testing.T) {
	for text, want := range map[string]string{
		"abcdef": "abcdef", "abcdefg": "abcdef…", "abcdeé": "abcde…", "a\xffb": "a\uFFFDb", "": "",
	} {
		if got := shortenTo(text, 6); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestRoundErrorReadsTheSameInAnyOrder(t *testing.T) {
	want := "no control-plane node lets this node in: 10.0.0.5:50001: connection refused; cp (10.0.0.6:50001): wrong token; cp (10.0.0.7:50001): wrong token"
	a, b, c := attempt{"10.0.0.5:50001", 0, unreached, "connection refused"},
		attempt{"cp (10.0.0.6:50001)", 1, refused, "wrong token"}, attempt{"cp (10.0.0.7:50001)", 1, refused, "wrong token"}
	for _, order := range [][]attempt{{a, b, c}, {c, b, a}, {b, a, c}} {
		if diff := cmp.Diff(want, newRoundError(order).Error()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOnlyANoThatLastsSlowsTheNodeDown(t *testing.T) {
	for want, kinds := range map[bool][][]kind{
		true:  {{refused}, {unreached, refused}, {unverified, unverified}, {refused, unverified}},
		false: {{unreached}, {unverified, unreached}, {}},
	} {
		for _, each := range kinds {
			var attempts []attempt
			for _, kind := range each {
				attempts = append(attempts, attempt{kind: kind})
			}
			if got := lasting(fmt.Errorf("round: %w", newRoundError(attempts))); got != want {
				t.Errorf("%v: %v", each, got)
			}
		}
	}
	if lasting(errors.New("another error")) {
		t.Error("another error lasts")
	}
}

func TestDelays(t *testing.T) {
	var got []time.Duration
	for failures := range 7 {
		got = append(got, joinDelay(failures, false))
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}, got); diff != "" {
		t.Error(diff)
	}
	if joinDelay(0, true) != lastingDelay || renewDelay(0) != renewFirst || renewDelay(1<<30) != checkEvery {
		t.Error("lasting refusals and renewals wait longer, and not for ever")
	}
	for range 100 {
		if delay := jitter(10 * s); delay < 10*s || delay > 11*s {
			t.Fatalf("jitter made 10s %s", delay)
		}
	}
}

func TestReachableAddresses(t *testing.T) {
	var all []netip.Addr
	for _, text := range []string{"fd00::14", "10.77.0.14", "127.0.0.1", "fe80::1", "169.254.20.10", "::ffff:10.77.0.14", "::1"} {
		all = append(all, netip.MustParseAddr(text))
	}
	if got := fmt.Sprint(reachable(all)); got != "[10.77.0.14 fd00::14]" {
		t.Errorf("got %s", got)
	}
}
