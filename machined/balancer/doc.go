// Package balancer is the node's own way to the Kubernetes API: a service on the
// loopback that passes connections on to the control-plane nodes that work.
package balancer
