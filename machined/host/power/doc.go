// Package power hears the machine's power button, which also is how a
// hypervisor or a management controller asks a machine to shut down.
package power
