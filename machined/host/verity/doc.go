// Package verity serves the initramfs: it checks that a dm-verity hash tree
// belongs to a root hash, and opens the device whose every read is verified by it.
package verity
