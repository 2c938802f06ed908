package client

import (
	"slices"
	"strings"
)

// broken begin what gRPC says of a connection that ended during a call. Only how
// a message begins counts: nodes quote such words of their own connections.
var broken = []string{
	"error reading from server", "error writing", "transport is closing", "closing transport", "keepalive ping failed",
	"the connection is draining", "the stream is rejected because server is draining",
}

// unmade begin what it says of a connection that could not be made, the last one
// of a greeting that the other end, gone already, did not take.
var unmade = []string{"connection error: ", "last connection error: ", "name resolver error: ", "write tcp "}

// ConnectionReason tells whether the message of an Unavailable is about the
// connection rather than the node's own words, and why it failed.
func ConnectionReason(message string) (string, bool) {
	begins := func(prefix string) bool { return strings.HasPrefix(message, prefix) }
	if slices.ContainsFunc(broken, begins) {
		return "the connection broke", true
	}
	if !slices.ContainsFunc(unmade, begins) {
		return "", false
	}
	if _, quoted, found := strings.Cut(message, `desc = "`); found {
		message = strings.ReplaceAll(strings.TrimSuffix(quoted, `"`), `\"`, `"`)
	}
	for _, prefix := range []string{"connection error: ", "transport: ", "Error while dialing: ", "error while dialing: ", "authentication handshake failed: "} {
		message = strings.TrimPrefix(message, prefix)
	}
	if slices.ContainsFunc(broken, begins) {
		return "the connection broke", true
	}
	return message, true
}
