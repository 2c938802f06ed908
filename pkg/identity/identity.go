package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Roles that a client certificate may carry in its Organization field.
const (
	Admin      = "os:admin"
	Operator   = "os:operator"
	Reader     = "os:reader"
	EtcdBackup = "os:etcd:backup"
)

// Forwarder marks the certificate by which a control-plane node's apid passes
// calls on to other nodes. It is no role: it lets its holder say, in metadata,
// for whom it calls. Only nodes that hold the OS CA's key have one.
const Forwarder = "os:forwarder"

// Metadata by which apid tells machined who calls. What a client itself sends
// under MetadataPrefix never gets past apid.
const (
	MetadataPrefix = "keelson-"
	MetadataUser   = MetadataPrefix + "user"
	MetadataRole   = MetadataPrefix + "role"  // repeated
	MetadataUntil  = MetadataPrefix + "until" // when the caller's certificate expires, as RFC 3339
)

// MetadataRemote is the IP address of a caller without a certificate: of a node
// that joins. apid tells it to machined.
const MetadataRemote = MetadataPrefix + "remote"

// MetadataNode is what a client asks under: the name or address of the node
// that is to answer its call, instead of the one it is connected to.
const MetadataNode = MetadataPrefix + "node"

// MetadataConnected is in the headers of an answer that carries a connection to
// Kubernetes: without it the call was refused.
const MetadataConnected = MetadataPrefix + "connected"

// APID is apid's own user in Kubernetes, which may do nothing but act as
// others.
const APID = "keelson:apid"

// groups are the Kubernetes groups that roles stand for, strongest first.
// machined's built-in manifests give them their rights.
var groups = []struct{ role, group string }{
	{Admin, "keelson:admin"},
	{Operator, "keelson:operator"},
	{Reader, "keelson:reader"},
}

// Groups returns the Kubernetes groups that roles stand for, strongest first;
// none when Kubernetes knows none of the roles.
func Groups(roles []string) []string {
	var found []string
	for _, each := range groups {
		if slices.Contains(roles, each.role) {
			found = append(found, each.group)
		}
	}
	return found
}

// reserved begin the names of Kubernetes' and Keelson's own components, to
// which Kubernetes grants rights by name.
var reserved = []string{"system:", "keelson:"}

// CheckUser refuses names of callers that would mean something else further
// inside: they travel in HTTP headers, and Kubernetes is asked under them.
func CheckUser(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }):
		return errors.New("it has other characters than printable ASCII")
	case strings.TrimSpace(name) != name:
		// Receivers of HTTP/1 headers cut the spaces off: another name arrives.
		return fmt.Errorf("%q begins or ends with a space", name)
	}
	for _, prefix := range reserved {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("%q begins with %s, which is for the cluster's own components", name, prefix)
		}
	}
	return nil
}
