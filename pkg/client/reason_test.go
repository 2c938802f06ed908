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
		{"closing transport due to: connection error: desc = \"error reading from server: EOF\", received prior goaway: x", "the connection broke", true},
		{"write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe", "write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe", true},
		{"the node does not have the cluster yet", "", false},
		// Their own connections are not this one.
		{`containerd does not answer; see osctl services: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix"`, "", false},
		{"etcd has no leader: read tcp 10.0.0.5:2380: connection reset by peer", "", false},
		{"node cp-2 at 10.0.0.6:50000 stopped answering during the call (the transport is closing)", "", false},
	} {
		reason, ours := ConnectionReason(test.message)
		if reason != test.reason || ours != test.ours {
			t.Errorf("%s: %q, %v", test.message, reason, ours)
		}
	}
}
