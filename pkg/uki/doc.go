// Package uki reads unified kernel images: EFI programs that are a kernel, its
// initramfs and its command line in one (UAPI group, "Unified Kernel Image").
package uki
