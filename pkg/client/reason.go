package client

import "strings"

// ConnectionReason tells whether the message of an Unavailable is about the
// connection rather than the node's own words, and why it failed.
func ConnectionReason(message string) (string, bool) {
	for _, lost := range []string{"error reading from server", "transport is closing", "closing transport", "connection reset", "the connection is draining", "keepalive ping failed"} {
		if strings.Contains(message, lost) {
			return "the connection broke", true
		}
	}
	if !strings.Contains(message, "connection error") && !strings.Contains(message, "name resolver error") {
		return "", false
	}
	if _, quoted, found := strings.Cut(message, `desc = "`); found {
		message = strings.ReplaceAll(strings.TrimSuffix(quoted, `"`), `\"`, `"`)
	}
	for _, prefix := range []string{"connection error: ", "transport: ", "Error while dialing: ", "error while dialing: ", "authentication handshake failed: "} {
		message = strings.TrimPrefix(message, prefix)
	}
	return message, true
}
