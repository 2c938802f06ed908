// Package flanneld joins the pod subnets of all nodes to one network: flannel's
// own packages, wired for a node whose API server knows every node's subnet.
package flanneld
