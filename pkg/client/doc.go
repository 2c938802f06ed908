// Package client is the typed client of a node's API, and the file that
// remembers which clusters a user has access to.
package client
