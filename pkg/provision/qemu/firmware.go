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

// firmwareFiles are where a Debian package has the firmware: its program, the one
// with Secure Boot, if there is one, and variables to begin with, which have no
// keys.
type firmwareFiles struct {
	pkg                         string
	code, secureCode, variables string
}

// FindFirmware returns the firmware's program and the file that a machine's
// variables begin as, or an error that says what to install. keys, if not "", is a
// file of variables with Secure Boot's keys, which is taken then.
func (p Platform) FindFirmware(keys string) (code, variables string, err error) {
	code, variables = p.firmware.code, p.firmware.variables
	if keys != "" {
		if p.secureMachine == "" {
			return "", "", fmt.Errorf("QEMU's %s machines cannot keep their firmware's variables safe: Secure Boot is for others only", p.Arch)
		}
		code, variables = p.firmware.secureCode, keys
		if _, err := os.Stat(keys); err != nil {
			return "", "", fmt.Errorf("the firmware's variables with the keys of Secure Boot: %w", err)
		}
	}
	for _, file := range []string{code, variables} {
		if _, err := os.Stat(file); err != nil {
			return "", "", fmt.Errorf("no UEFI firmware for QEMU: install Debian's package %s (apt-get install %s): %w", p.firmware.pkg, p.firmware.pkg, err)
		}
	}
	return code, variables, nil
}
