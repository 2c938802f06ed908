package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testSigner makes a key and its certificate, as files.
func testSigner(t *testing.T) secureBoot {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return secureBoot{Key: write("key.pem", "PRIVATE KEY", private), Certificate: write("cert.pem", "CERTIFICATE", certificate)}
}

// What is signed is verified by its own certificate, and by no other; one byte
// that is changed later is found.
func TestSign(t *testing.T) {
	b := *artefactsForTest(t)
	unsigned, own, other := b.path("keelson.efi"), testSigner(t), testSigner(t)
	b.SecureBoot = own
	signed := filepath.Join(t.TempDir(), "signed.efi")
	if err := b.sign(t.Context(), unsigned, signed); err != nil {
		t.Fatal(err)
	}
	verify := func(certificate, file string) error {
		_, err := command(t.Context(), "", "sbverify", "--cert", certificate, file)
		return err
	}
	if err := verify(own.Certificate, signed); err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(signed)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "changed.efi")
	at := bytes.Index(content, []byte("keelson.roothash=")) + len("keelson.roothash=")
	content[at] ^= 1
	if err := os.WriteFile(changed, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"another certificate": verify(other.Certificate, signed),
		"no signature":        verify(own.Certificate, unsigned),
		"another root hash":   verify(own.Certificate, changed),
	} {
		if err == nil {
			t.Errorf("%s: it is verified", name)
		}
	}
	b.SecureBoot.Key = own.Certificate
	if err := b.sign(t.Context(), unsigned, signed); err == nil || !strings.Contains(err.Error(), "must be RSA, in PEM and without a passphrase") {
		t.Errorf("a key that is none: %v", err)
	}
}
