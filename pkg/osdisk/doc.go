// Package osdisk is what a node's own disk looks like, and how an image first
// gets on it. The build makes disk images with it, a node installs itself.
package osdisk
