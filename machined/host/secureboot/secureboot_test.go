package secureboot

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/pe"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/big"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/efi/signature"
	"github.com/foxboron/go-uefi/efi/util"

	"github.com/keelson-os/keelson/machined/host/hosttest"
)

// signer is a certificate and its key.
type signer struct {
	*x509.Certificate
	key *rsa.PrivateKey
}

// newSigner makes a signer whose certificate another one has issued, or itself.
func newSigner(t *testing.T, name string, by *signer) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	parent, parentKey := template, key
	if by != nil {
		parent, parentKey = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{certificate, key}
}

// program is a UEFI program with one section.
func program(t *testing.T, code string) []byte {
	t.Helper()
	const headers, size = 512, 512
	var b bytes.Buffer
	dos := make([]byte, 128)
	copy(dos, "MZ")
	dos[0x3c] = byte(len(dos))
	b.Write(dos)
	b.WriteString("PE\x00\x00")
	optional := pe.OptionalHeader64{Magic: 0x20b, SizeOfHeaders: headers, FileAlignment: 512, NumberOfRvaAndSizes: 16}
	section := pe.SectionHeader32{VirtualSize: size, SizeOfRawData: size, PointerToRawData: headers}
	copy(section.Name[:], ".text")
	for _, part := range []any{
		pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(optional))}, optional, section,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, headers-b.Len()))
	return append(append(b.Bytes(), code...), make([]byte, size-len(code))...)
}

func signed(t *testing.T, image []byte, by *signer) []byte {
	t.Helper()
	binary, err := authenticode.Parse(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := binary.Sign(by.key, by.Certificate); err != nil {
		t.Fatal(err)
	}
	return binary.Bytes()
}

// firmware is a machine whose variable db has these entries.
func firmware(t *testing.T, certificates []*signer, digests ...[]byte) *hosttest.OS {
	t.Helper()
	var all signature.SignatureDatabase
	add := func(kind util.EFIGUID, data []byte) {
		if err := all.Append(kind, util.EFIGUID{}, data); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range certificates {
		add(signature.CERT_X509_GUID, one.Raw)
	}
	for _, digest := range digests {
		add(signature.CERT_SHA256_GUID, digest)
	}
	// A list of a kind that nobody knows comes first, and half a one last.
	strange := make([]byte, 28+5)
	strange[16] = byte(len(strange))
	content := slices.Concat([]byte{0x27, 0, 0, 0}, strange, all.Bytes(), strange[:30])
	return &hosttest.OS{Files: fstest.MapFS{variables[1:] + "/" + db: {Data: content}}}
}

func TestCheck(t *testing.T) {
	vendor := newSigner(t, "vendor", nil)
	operator, stranger := newSigner(t, "operator", nil), newSigner(t, "stranger", nil)
	issued := newSigner(t, "issued", operator)
	image, other := program(t, "this one"), program(t, "another one")
	parsed, err := authenticode.Parse(bytes.NewReader(other))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := Firmware(firmware(t, []*signer{vendor, operator}, parsed.Hash(crypto.SHA256)))
	if err != nil {
		t.Fatal(err)
	}
	changed := signed(t, image, operator)
	changed[600] ^= 1
	for name, test := range map[string]struct {
		image []byte
		want  error
	}{
		"by a key of the firmware":         {signed(t, image, operator), nil},
		"by the other":                     {signed(t, image, vendor), nil},
		"by a key that one of them issued": {signed(t, image, issued), nil},
		"by two, of which one is known":    {signed(t, signed(t, image, stranger), vendor), nil},
		"by its digest":                    {other, nil},
		"by nobody":                        {image, ErrUntrusted},
		"by a stranger":                    {signed(t, image, stranger), ErrUntrusted},
		"by a key, and changed since":      {changed, ErrUntrusted},
	} {
		if err := trust.Check(bytes.NewReader(test.image)); !errors.Is(err, test.want) {
			t.Errorf("signed %s: %v", name, err)
		}
	}
	for name, broken := range map[string][]byte{"empty": nil, "text": []byte("kernel"), "cut short": changed[:len(changed)-600]} {
		if err := trust.Check(bytes.NewReader(broken)); err == nil || errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := trust.Add(bytes.NewReader(signed(t, image, stranger))); err != nil {
		t.Fatal(err)
	}
	if err := trust.Check(bytes.NewReader(signed(t, image, stranger))); err != nil {
		t.Errorf("signed as what runs: %v", err)
	}
}

func TestFirmwareWithoutKeys(t *testing.T) {
	machine := &hosttest.OS{Files: fstest.MapFS{}}
	if _, err := Firmware(machine); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no variable: %v", err)
	}
	if calls := machine.Calls(); len(calls) != 2 {
		t.Errorf("calls %q", calls)
	}
	machine = &hosttest.OS{Fail: map[string]error{"Mount": fs.ErrPermission}}
	if _, err := Firmware(machine); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no mount: %v", err)
	}
}
