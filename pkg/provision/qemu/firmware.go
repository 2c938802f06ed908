package qemu

import (
	"fmt"
	"os"
)

// Firmware is UEFI for a machine that boots by itself, from a disk, a medium or
// the network, instead of being given a kernel.
type Firmware struct {
	// Code is the firmware's program, shared and read-only; Variables is the
	// machine's own copy of what the firmware keeps.
	Code, Variables string
}

// FirmwarePackage is the Debian package that holds the firmware.
const FirmwarePackage = "ovmf"

// Where that package has the firmware: its program, and variables to begin with.
const (
	firmwareCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// FindFirmware returns the firmware's program and the file that a machine's
// variables begin as, or an error that says what to install.
func FindFirmware() (code, variables string, err error) {
	for _, file := range []string{firmwareCode, firmwareVariables} {
		if _, err := os.Stat(file); err != nil {
			return "", "", fmt.Errorf("no UEFI firmware for QEMU: install Debian's package %s (apt-get install %s): %w", FirmwarePackage, FirmwarePackage, err)
		}
	}
	return firmwareCode, firmwareVariables, nil
}
