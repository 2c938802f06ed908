// Command apid is the front door of a node: the one process that faces the
// network for management. It authenticates clients by mutual TLS, checks one
// table of methods and roles, and then routes a call to the service that
// answers it, on this node or, through its apid, on another one. It runs as a user
// of its own, without capabilities.
package main
