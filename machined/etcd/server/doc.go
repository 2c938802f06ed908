// Command etcd is the cluster's store: the etcd server library in a process of
// its own, so that its panic or memory is never PID 1's.
package main
