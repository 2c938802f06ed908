package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// PEM block types, as OpenSSL and Kubernetes write them.
const (
	certBlock = "CERTIFICATE"
	keyBlock  = "EC PRIVATE KEY"
	pkcs8     = "PRIVATE KEY"
)

// KeyPair is a certificate and its private key, each as PEM.
type KeyPair struct {
	Cert, Key []byte
}

// Check tells whether both parts can be read and belong together.
func (pair KeyPair) Check() error {
	cert, err := ParseCert(pair.Cert)
	if err != nil {
		return err
	}
	key, err := ParseKey(pair.Key)
	if err != nil {
		return err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return errors.New("the key does not belong to the certificate")
	}
	return nil
}

// String keeps the key out of logs and error texts.
func (pair KeyPair) String() string { return "[certificate and key]" }

// GoString keeps the key out of logs and error texts.
func (pair KeyPair) GoString() string { return pair.String() }

// NewKey makes an ECDSA P-256 private key, as PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return encodeKey(key)
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != certBlock {
		return nil, fmt.Errorf("no PEM block %q", certBlock)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	return cert, nil
}

// ParseKey reads an ECDSA P-256 private key from PEM, in either form that
// common tools write. Its errors never quote the text.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("no PEM block %q", keyBlock)
	}
	var key any
	var err error
	switch block.Type {
	case keyBlock:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pkcs8:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("no PEM block %q", keyBlock)
	}
	if err != nil {
		return nil, errors.New("the private key cannot be read: damaged, or of another kind than its PEM block says")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("the private key is not of the kind ECDSA P-256")
	}
	return ec, nil
}

// Fingerprint returns the SHA-256 of a certificate's DER form, in lower-case
// hex, as a node prints it on its console.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// EncodeCert returns a certificate's DER form as PEM.
func EncodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}
