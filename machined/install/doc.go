// Package install is the boot stage of a node that was booted from a medium: it
// finds what the node booted from, and the image there that goes to the disk.
package install
