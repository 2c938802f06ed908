// Package kubernetes is boot stage 7: the Kubernetes components of this node,
// with their keys, flags and files, and what the cluster must hold from us.
package kubernetes
