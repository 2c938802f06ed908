// Package entries is the boot entries of an installed node: files on the ESP, in
// whose names the boot loader counts.
package entries
