// Package etcd is boot stage 6: the member of the cluster's store that this
// node runs, how it comes to be (Bootstrap), and whether it works.
package etcd
