package host

import "io/fs"

// bootParams is what the kernel's EFI stub handed over, byte for byte.
const bootParams = "sys/kernel/boot_params/data"

// Where struct boot_params has the state of Secure Boot, and the value that says
// that it is on (arch/x86/include/uapi/asm/bootparam.h, enum efi_secureboot_mode).
const (
	secureBootAt      = 0x1ec
	secureBootEnabled = 3
)

// SecureBoot tells whether the firmware verified what it started.
func SecureBoot(root fs.FS) bool {
	params, err := fs.ReadFile(root, bootParams)
	return err == nil && len(params) > secureBootAt && params[secureBootAt] == secureBootEnabled
}
