// Command initramfs is boot stage 0: it finds the root image by its content,
// verifies it against the kernel command line, and hands over to machined on it.
package main
