package secureboot

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/efi/signature"
	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
)

// Module is what Firmware needs of the kernel.
const Module = "efivarfs"

const (
	variables = "/sys/firmware/efi/efivars"
	// db is the variable of the keys that are trusted: its name, and the GUID of
	// EFI_IMAGE_SECURITY_DATABASE (UEFI 2.10, 32.6.1).
	db = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	// attributes come before the content of a variable in efivarfs, in bytes.
	attributes = 4
)

// ErrUntrusted says that the firmware would not start an image. What it has revoked
// (its variable dbx) is not looked at.
var ErrUntrusted = errors.New("the firmware has no key that signed it, and Secure Boot is on")

// Trust is whose images are started.
type Trust struct {
	certificates []*x509.Certificate
	// digests are those of single images, by Authenticode.
	digests [][]byte
}

// Firmware is the trust of the machine's firmware, as its variable db has it. What
// of that has a form that is not known here is left out.
func Firmware(machine host.OS) (*Trust, error) {
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := machine.Mount("efivarfs", variables, "efivarfs", flags, ""); err != nil {
		return nil, fmt.Errorf("mount the firmware's variables: %w", err)
	}
	content, err := fs.ReadFile(machine.Root(), strings.TrimPrefix(variables+"/"+db, "/"))
	if err := errors.Join(err, machine.Unmount(variables, 0)); err != nil {
		return nil, fmt.Errorf("read the firmware's keys: %w", err)
	}
	if len(content) < attributes {
		return nil, errors.New("read the firmware's keys: the variable is cut short")
	}
	t := &Trust{}
	for _, text := range split(content[attributes:]) {
		list, err := signature.ReadSignatureList(bytes.NewReader(text))
		if err != nil {
			continue // of a kind that the library does not know
		}
		for _, entry := range list.Signatures {
			switch list.SignatureType {
			case signature.CERT_X509_GUID:
				if certificate, err := x509.ParseCertificate(entry.Data); err == nil {
					t.certificates = append(t.certificates, certificate)
				}
			case signature.CERT_SHA256_GUID:
				t.digests = append(t.digests, entry.Data)
			}
		}
	}
	return t, nil
}

// split cuts the variable into its lists: each begins with an EFI_SIGNATURE_LIST,
// which has its size behind a GUID.
func split(content []byte) (lists [][]byte) {
	const header, sizeAt = 28, 16
	for len(content) >= header {
		size := binary.LittleEndian.Uint32(content[sizeAt:])
		if size < header || uint64(size) > uint64(len(content)) {
			break
		}
		lists, content = append(lists, content[:size]), content[size:]
	}
	return lists
}

// Add trusts who signed an image that the firmware has started: a shim has keys that
// the firmware has not.
func (t *Trust) Add(image io.ReaderAt) error {
	_, signatures, err := read(image)
	if err != nil {
		return err
	}
	for _, one := range signatures {
		t.certificates = append(t.certificates, one.Pkcs.Certs...)
	}
	return nil
}

// Check tells whether an image would be started; the error is ErrUntrusted if not.
func (t *Trust) Check(image io.ReaderAt) error {
	program, signatures, err := read(image)
	if err != nil {
		return err
	}
	digest := program.Hash(crypto.SHA256)
	if slices.ContainsFunc(t.digests, func(known []byte) bool { return bytes.Equal(known, digest) }) {
		return nil
	}
	var wrong []error
	for _, one := range signatures {
		if !bytes.Equal(one.Digest, digest) {
			continue // it was signed, and changed since
		}
		for _, certificate := range t.leadingTo(one.Pkcs.Certs) {
			ok, err := one.Pkcs.Verify(certificate)
			if ok && err == nil {
				return nil
			}
			if err != nil {
				wrong = append(wrong, err)
			}
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("%w (%w)", ErrUntrusted, err)
	}
	return ErrUntrusted
}

// leadingTo are the certificates that are trusted, and those of a signature that
// one of them has issued, or one of those.
func (t *Trust) leadingTo(given []*x509.Certificate) []*x509.Certificate {
	trusted := slices.Clone(t.certificates)
	for range given {
		for _, certificate := range given {
			issued := func(by *x509.Certificate) bool { return certificate.CheckSignatureFrom(by) == nil }
			if !slices.ContainsFunc(trusted, certificate.Equal) && slices.ContainsFunc(trusted, issued) {
				trusted = append(trusted, certificate)
			}
		}
	}
	return trusted
}

// read takes a program and its signatures apart.
func read(image io.ReaderAt) (program *authenticode.PECOFFBinary, signatures []*authenticode.Authenticode, err error) {
	defer func() {
		// The library takes the sizes that a program states for true.
		if broken := recover(); broken != nil {
			err = fmt.Errorf("it is no UEFI program: %v", broken)
		}
	}()
	program, err = authenticode.Parse(image)
	if err != nil {
		return nil, nil, fmt.Errorf("it is no UEFI program: %w", err)
	}
	texts, err := program.Signatures()
	if err != nil {
		return nil, nil, fmt.Errorf("read its signatures: %w", err)
	}
	for _, text := range texts {
		// One that is not understood vouches for nothing; another may.
		if one, err := authenticode.ParseAuthenticode(text.Certificate); err == nil {
			signatures = append(signatures, one)
		}
	}
	return program, signatures, nil
}
