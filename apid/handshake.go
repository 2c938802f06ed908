package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// loggedHandshakes logs why a client's TLS handshake was refused. gRPC itself
// tells nobody: such a connection never becomes a call.
type loggedHandshakes struct {
	credentials.TransportCredentials
	refused *throttledLog
}

func (l *loggedHandshakes) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := l.TransportCredentials.ServerHandshake(conn)
	if err == nil || isHangUp(err) {
		return secure, info, err
	}
	attributes := []any{"remote", conn.RemoteAddr().String(), "reason", err}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(failed.UnverifiedCertificates) > 0 {
		cert := failed.UnverifiedCertificates[0]
		attributes = append(attributes, "claimed_name", cert.Subject.CommonName, "serial", cert.SerialNumber.Text(16))
	}
	l.refused.warn("client refused", attributes...)
	return secure, info, err
}

func (l *loggedHandshakes) Clone() credentials.TransportCredentials {
	return &loggedHandshakes{l.TransportCredentials.Clone(), l.refused}
}

// isHangUp tells that the client went away before it said anything: a port
// probe, such as the supervisor's own health check.
func isHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}
