// Package throttle bounds how often strangers may do something: each by its
// network address, and all of them together.
package throttle
