// Package identity holds the names by which a caller's rights travel: from the
// client's certificate to apid, and on to machined and Kubernetes.
package identity
