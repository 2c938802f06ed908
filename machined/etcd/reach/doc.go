// Package reach says in a few words why a member of etcd could not be asked.
package reach
