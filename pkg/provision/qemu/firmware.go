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
	// Secure keeps the variables from everything but the firmware, as Secure Boot
	// needs it.
	Secure bool
}

// machine is the machine that a firmware needs.
func (f Firmware) machine() string {
	if f.Secure {
		return "q35,smm=on" // only in that mode can the variables be written
	}
	return "q35"
}

// FirmwarePackage is the Debian package that holds the firmware.
const FirmwarePackage = "ovmf"

// Where that package has the firmware: its program, the one with Secure Boot, and
// variables to begin with, which have no keys.
const (
	firmwareCode       = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareSecureCode = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	firmwareVariables  = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// FindFirmware returns the firmware's program and the file that a machine's
// variables begin as, or an error that says what to install. keys, if not "", is a
// file of variables with Secure Boot's keys, which is taken then.
func FindFirmware(keys string) (code, variables string, err error) {
	code, variables = firmwareCode, firmwareVariables
	if keys != "" {
		code, variables = firmwareSecureCode, keys
		if _, err := os.Stat(keys); err != nil {
			return "", "", fmt.Errorf("the firmware's variables with the keys of Secure Boot: %w", err)
		}
	}
	for _, file := range []string{code, variables} {
		if _, err := os.Stat(file); err != nil {
			return "", "", fmt.Errorf("no UEFI firmware for QEMU: install Debian's package %s (apt-get install %s): %w", FirmwarePackage, FirmwarePackage, err)
		}
	}
	return code, variables, nil
}
