package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// Sizes of RSA keys that are signed, in bits: below is weak, and above costs
// everyone who checks the certificate more than it gains.
const (
	minRSA = 2048
	maxRSA = 8192
)

// NewCSR makes an ECDSA P-256 private key, as PEM, and a certificate signing
// request (PKCS #10, DER) for it. The request names nobody: who signs decides
// what the certificate says.
func NewCSR() (key, csr []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	key, err = encodeKey(private)
	return key, csr, err
}

// Sign issues a certificate (DER) for the public key of a certificate signing
// request (PKCS #10, DER). Nothing but the key is taken from it: names, uses
// and lifetime are request's.
func (ca *CA) Sign(csr []byte, request Request) ([]byte, error) {
	parsed, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("read the certificate request: %w", err)
	}
	// Before the signature is checked: what it costs depends on the key.
	if err := checkKey(parsed.PublicKey); err != nil {
		return nil, fmt.Errorf("the certificate request's key: %w", err)
	}
	// It proves that who asks holds the private key.
	if err := parsed.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check the certificate request's signature: %w", err)
	}
	template, err := ca.template(request)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %q: %w", request.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, parsed.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", request.CommonName, err)
	}
	return der, nil
}

// checkKey refuses keys of other kinds and sizes than are known to be good.
func checkKey(public any) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("curve %s: expected P-256 or P-384", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("RSA of %d bits: expected %d to %d", bits, minRSA, maxRSA)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("expected ECDSA P-256 or P-384, RSA or Ed25519")
}
