// Package join is how a worker becomes one of the cluster: on a control-plane
// node it signs what holders of the join token ask for, and on a worker it asks.
package join
