// Package secureboot tells whether firmware that verifies what it starts (UEFI Secure
// Boot) would start a kernel image, as far as that
// can be told from outside.
package secureboot
