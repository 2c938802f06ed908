// Package kubetunnel carries connections to the Kubernetes API inside calls of
// the node's API, so that clients reach Kubernetes with the libraries they have
// and without a way around the front door.
package kubetunnel
