// Package config is boot stage 2: it finds the machine config, on the node's
// disk, in QEMU's fw_cfg or at the URL on the kernel command line, and decodes it.
package config
