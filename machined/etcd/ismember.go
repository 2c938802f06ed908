package etcd

// IsMember tells whether this node has a member that the cluster may know: not
// before it is made or joins, nor after it was removed.
func IsMember() (bool, error) {
	now, err := read(dataDir)
	return now == pending || now == formed, err
}
