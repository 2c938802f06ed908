// Package osbundle is the file that a node is updated from: an OS image with a
// signed manifest in front, so that a stream of it can be judged before the first
// byte is written.
package osbundle
