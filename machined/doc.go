// Command machined is process 1 of a Keelson node: it boots it, keeps its
// services running and takes it down. sequence.go is its table of contents.
package main
