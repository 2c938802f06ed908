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
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
)

const (
	// tryTimeout bounds one try: connection, handshake and answer.
	tryTimeout = 10 * time.Second
	// maxAnswer is bytes; six certificates have about 5 KiB.
	maxAnswer = 256 << 10
)

// target is one address of a control-plane node, and what it must prove to be.
type target struct {
	host    string
	address netip.AddrPort
}

func (t target) String() string {
	if t.host == t.address.Addr().String() {
		return t.address.String()
	}
	return fmt.Sprintf("%s (%s)", t.host, t.address)
}

// call asks one control-plane node. The request is sent only after the node has
// proven, by a certificate of the cluster's authority, to be the one dialled.
func call(ctx context.Context, to target, roots *x509.CertPool, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	link := &link{TransportCredentials: credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: to.host,
	})}
	conn, err := grpc.NewClient("passthrough:"+to.address.String(),
		grpc.WithTransportCredentials(link),
		grpc.WithContextDialer(link.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	response, err := joinpb.NewJoinServiceClient(conn).Join(ctx, request)
	if err == nil {
		return response, nil
	}
	if broken := link.broken(); broken != nil {
		return nil, broken
	}
	return nil, err
}

// link remembers why there is no connection: gRPC only tells it inside a
// sentence.
type link struct {
	credentials.TransportCredentials

	mu  sync.Mutex
	err error
}

func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	l.note(err)
	return conn, err
}

// ClientHandshake implements credentials.TransportCredentials.
func (l *link) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := l.TransportCredentials.ClientHandshake(ctx, authority, raw)
	l.note(err)
	return conn, info, err
}

// Clone implements credentials.TransportCredentials. The one connection there
// is needs no other.
func (l *link) Clone() credentials.TransportCredentials { return l }

func (l *link) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *link) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// kind is how an attempt failed, as far as it matters for the next.
type kind int

const (
	// unreached: nobody answered, or not with what was asked for. It may pass.
	unreached kind = iota
	// unverified: who answered is none of the cluster.
	unverified
	// refused: a node of the cluster said no, and will until someone changes
	// something.
	refused
)

// explain says in a few words why a try failed.
func explain(err error, now time.Time) (kind, string) {
	if answer, ok := status.FromError(err); ok {
		return explainAnswer(answer)
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return unverified, explainCertificate(failed, now)
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return unreached, number.Error() // "connection refused"
	}
	if timeout := net.Error(nil); errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout() {
		return unreached, fmt.Sprintf("no answer within %s", tryTimeout)
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return unreached, "the name does not resolve: " + name.Err
	}
	if errors.Is(err, io.EOF) {
		return unreached, "the connection was closed"
	}
	return unreached, err.Error()
}

func explainAnswer(answer *status.Status) (kind, string) {
	switch answer.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.AlreadyExists,
		codes.InvalidArgument, codes.ResourceExhausted, codes.Unimplemented:
		return refused, answer.Message()
	case codes.DeadlineExceeded:
		return unreached, fmt.Sprintf("no answer within %s", tryTimeout)
	}
	return unreached, answer.Message()
}

// explainCertificate says what is wrong with who answered.
func explainCertificate(failed *tls.CertificateVerificationError, now time.Time) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](failed); ok {
		return "it is not a node of this cluster: its certificate is not of this config's secrets.osCA; correct cluster.controlPlane.addresses, or give this node a config of that cluster"
	}
	if name, ok := errors.AsType[x509.HostnameError](failed); ok {
		return fmt.Sprintf("its certificate is not for %s, only for %s: ask for one of those in cluster.controlPlane.addresses, or name it there in the control-plane nodes' configs too", name.Host, certifiedNames(name.Certificate))
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](failed); ok && invalid.Reason == x509.Expired {
		return fmt.Sprintf("its certificate is valid from %s to %s, and this node's clock says %s: set the clock",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return failed.Error()
}

func certifiedNames(cert *x509.Certificate) string {
	var names []string
	names = append(names, cert.DNSNames...)
	for _, address := range cert.IPAddresses {
		names = append(names, address.String())
	}
	return fmt.Sprint(names)
}
