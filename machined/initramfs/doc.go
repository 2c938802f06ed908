// Command initramfs is the boot's first program: it finds the root image by its
// content, verifies it against the kernel command line, and becomes machined on it.
package main
