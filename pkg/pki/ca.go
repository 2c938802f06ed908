package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// backdate is how long before "now" a certificate begins to be valid: machines
// that have not asked a time server yet may be some hours behind.
const backdate = 24 * time.Hour

// NodeTTL is the life of certificates that a node mints at every start, into
// memory, beside the key of their CA; it is cut to the CA's own end. A shorter
// life would protect nothing, and end nodes that nobody rebooted in time.
const NodeTTL = 10 * 365 * 24 * time.Hour

// CA is a certificate authority that can issue certificates.
type CA struct {
	pair KeyPair
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a self-signed certificate authority, valid from a day before now
// until ttl after now.
func NewCA(commonName string, now time.Time, ttl time.Duration) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the key of CA %q: %w", commonName, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA %q: %w", commonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse CA %q: %w", commonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &CA{pair: KeyPair{Cert: EncodeCert(der), Key: keyPEM}, cert: cert, key: key}, nil
}

// ParseCA reads a certificate authority from PEM. The pair must match and the
// certificate must be a CA's.
func ParseCA(pair KeyPair) (*CA, error) {
	if err := pair.Check(); err != nil {
		return nil, err
	}
	cert, err := ParseCert(pair.Cert)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("certificate %q is not a certificate authority's", cert.Subject.CommonName)
	}
	key, err := ParseKey(pair.Key)
	if err != nil {
		return nil, err
	}
	return &CA{pair: pair, cert: cert, key: key}, nil
}

// KeyPair returns the authority's own certificate and key.
func (ca *CA) KeyPair() KeyPair { return ca.pair }

// Certificate returns the authority's own certificate. It must not be changed.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Request says what a certificate is for.
type Request struct {
	// CommonName is the user of a client's certificate.
	CommonName string
	// Organizations are the roles (OS API) or groups (Kubernetes) of a client.
	Organizations []string
	// DNSNames and IPs are what a server may be reached as.
	DNSNames []string
	IPs      []netip.Addr
	// Client and Server are the uses allowed; at least one is needed.
	Client, Server bool
	// Now is the time of issue; the zero value means time.Now.
	Now time.Time
	// TTL is how long the certificate is valid after Now. It is cut to the
	// authority's own end.
	TTL time.Duration
}

// Issue makes a key and signs a certificate for it.
func (ca *CA) Issue(request Request) (KeyPair, error) {
	template, err := ca.template(request)
	if err != nil {
		return KeyPair{}, fmt.Errorf("issue a certificate for %q: %w", request.CommonName, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("generate a key for %q: %w", request.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("sign a certificate for %q: %w", request.CommonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{Cert: EncodeCert(der), Key: keyPEM}, nil
}

func (ca *CA) template(request Request) (*x509.Certificate, error) {
	now := request.Now
	if now.IsZero() {
		now = time.Now()
	}
	if request.TTL <= 0 {
		return nil, errors.New("a lifetime above zero is needed")
	}
	var usages []x509.ExtKeyUsage
	if request.Client {
		usages = append(usages, x509.ExtKeyUsageClientAuth)
	}
	if request.Server {
		usages = append(usages, x509.ExtKeyUsageServerAuth)
	}
	if usages == nil {
		return nil, errors.New("a use is needed: client, server or both")
	}
	// An empty ExtKeyUsage would allow every use, hence the refusal above; and
	// a leaf may not outlive its issuer, or clients fail later with a puzzle.
	notBefore, notAfter := now.Add(-backdate), now.Add(request.TTL)
	if notBefore.Before(ca.cert.NotBefore) {
		notBefore = ca.cert.NotBefore
	}
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: request.CommonName, Organization: request.Organizations},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usages,
		BasicConstraintsValid: true,
		DNSNames:              request.DNSNames,
	}
	for _, ip := range request.IPs {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.Unmap().AsSlice()))
	}
	return template, nil
}

// newSerial makes a positive serial of 127 random bits (RFC 5280 allows 20 octets).
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
