// Package api is machined's own gRPC API on a unix socket, one file per noun.
// It checks no roles: only apid, which does, may open the socket.
package api
