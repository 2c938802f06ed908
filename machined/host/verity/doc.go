// Package verity is part of boot stage 0: it checks that a dm-verity hash tree
// belongs to a root hash, and opens the device whose every read is verified by it.
package verity
