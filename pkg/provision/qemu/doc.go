// Package qemu runs one virtual machine: it finds a usable QEMU and accelerator,
// builds the command line, and talks to the running machine over QMP.
package qemu
