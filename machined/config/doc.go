// Package config is boot stage 2: it finds the machine config, from QEMU's
// fw_cfg or from the URL on the kernel command line, and decodes it.
package config
