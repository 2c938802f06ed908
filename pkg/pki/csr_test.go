package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// requestOf makes a certificate request that names more than its sender may.
func requestOf(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "mallory", Organization: []string{"system:masters"}},
		DNSNames: []string{"kubernetes"}, IPAddresses: []net.IP{{10, 0, 0, 1}}, EmailAddresses: []string{"m@example.org"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

var server = Request{
	CommonName: "apid", Server: true, DNSNames: []string{"worker-1"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.5")},
	Now: now, TTL: time.Hour,
}

func TestSignTakesNothingButTheKeyFromARequest(t *testing.T) {
	ca := newCA(t)
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(ca.Sign(requestOf(t, key), server))))
	if cert.Subject.String() != "CN=apid" || strings.Join(cert.DNSNames, " ") != "worker-1" || cert.EmailAddresses != nil {
		t.Errorf("subject %s, names %q %q", cert.Subject, cert.DNSNames, cert.EmailAddresses)
	}
	if len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != "10.0.0.5" || cert.IsCA {
		t.Errorf("addresses %v, CA %v", cert.IPAddresses, cert.IsCA)
	}
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || !cert.NotAfter.Equal(now.Add(time.Hour)) {
		t.Errorf("uses %v, until %s", cert.ExtKeyUsage, cert.NotAfter)
	}
	if !key.PublicKey.Equal(cert.PublicKey) || cert.CheckSignatureFrom(ca.Certificate()) != nil {
		t.Error("not the request's key, or not the authority's signature")
	}
}

func TestSignRefuses(t *testing.T) {
	ca := newCA(t)
	forged := requestOf(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	forged[len(forged)-1] ^= 1 // of the signature
	good := requestOf(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	for name, c := range map[string]struct {
		csr  []byte
		says string
	}{
		"another curve":   {requestOf(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))), "P-224"},
		"a short RSA key": {requestOf(t, must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))), "RSA of 1024 bits"},
		"no possession":   {forged, "signature"},
		"nothing":         {nil, "read the certificate request"},
		"a certificate":   {ca.Certificate().Raw, "read the certificate request"},
		"more behind it":  {append(bytes.Clone(good), 0), "read the certificate request"},
	} {
		if _, err := ca.Sign(c.csr, server); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
	}
	if _, err := ca.Sign(good, Request{CommonName: "x", TTL: time.Hour}); err == nil {
		t.Error("signed for no use")
	}
}

func TestSignTakesTheCustomaryKeys(t *testing.T) {
	ca := newCA(t)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	for name, key := range map[string]crypto.Signer{
		"Ed25519":  edwards,
		"RSA 2048": must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)),
	} {
		if _, err := ca.Sign(requestOf(t, key), server); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewCSRBelongsToItsKey(t *testing.T) {
	ca := newCA(t)
	key, csr, err := NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Sign(csr, server)
	if err != nil {
		t.Fatal(err)
	}
	if err := (KeyPair{Cert: EncodeCert(der), Key: key}).Check(); err != nil {
		t.Error(err)
	}
}

// Whatever bytes come in, what is signed says what the signer wanted.
func FuzzSign(f *testing.F) {
	ca, err := NewCA("test", now, 24*time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	f.Add(requestOf(f, edwards))
	_, csr, err := NewCSR()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Fuzz(func(t *testing.T, csr []byte) {
		der, err := ca.Sign(csr, server)
		if err != nil {
			return
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.String() != "CN=apid" || strings.Join(cert.DNSNames, " ") != "worker-1" || cert.IsCA || len(cert.IPAddresses) != 1 {
			t.Errorf("signed %s, %q, %v", cert.Subject, cert.DNSNames, cert.IPAddresses)
		}
	})
}
