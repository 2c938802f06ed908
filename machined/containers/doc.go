// Package containers is boot stage 5: containerd, the pause image it makes
// every pod's sandbox from, and the node's images as the API shows them.
package containers
