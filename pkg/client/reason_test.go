package client

import "testing"

func TestConnectionReason(t *testing.T) {
	for _, test := range []struct {
		message, reason string
		ours            bool
	}{
		{`connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.5:50000: connect: connection refused"`,
			"dial tcp 10.0.0.5:50000: connect: connection refused", true},
		{`connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`,
			"tls: failed to verify certificate: x509: certificate signed by unknown authority", true},
		{`connection error: desc = "keepalive ping failed to receive ACK within timeout"`, "the connection broke", true},
		{"error reading from server: EOF", "the connection broke", true},
		{"the node does not have the cluster yet", "", false},
	} {
		reason, ours := ConnectionReason(test.message)
		if reason != test.reason || ours != test.ours {
			t.Errorf("%s: %q, %v", test.message, reason, ours)
		}
	}
}
