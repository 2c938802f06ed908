// Package snapshot is the form of etcd's snapshot files: the database as it is
// on disk, and behind it the SHA-256 of all that. etcdutl knows it too.
package snapshot
