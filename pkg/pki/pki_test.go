package pki

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("test", now, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestIssuedCertificateVerifiesForItsUses(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Issue(Request{
		CommonName: "node", Organizations: []string{"os:admin"}, Server: true,
		DNSNames: []string{"node.example"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.5")},
		Now: now, TTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Check(); err != nil {
		t.Error(err)
	}
	cert, err := ParseCert(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	verify := func(name string, use x509.ExtKeyUsage) error {
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: roots, DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use},
		})
		return err
	}
	for _, name := range []string{"node.example", "10.0.0.5"} {
		if err := verify(name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("as server %s: %v", name, err)
		}
	}
	if err := verify("other.example", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("verified for a name it does not hold")
	}
	if err := verify("node.example", x509.ExtKeyUsageClientAuth); err == nil {
		t.Error("verified as a client's, though issued for a server")
	}
	if got := cert.Subject.Organization; len(got) != 1 || got[0] != "os:admin" {
		t.Errorf("organizations %q", got)
	}
}

func TestIssueCutsTheLifetimeToTheAuthoritys(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Issue(Request{CommonName: "x", Client: true, Now: now, TTL: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ParseCert(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.NotAfter.Equal(ca.Certificate().NotAfter) {
		t.Errorf("ends %s, its issuer %s", cert.NotAfter, ca.Certificate().NotAfter)
	}
}

func TestIssueRefusesARequestWithoutUseOrLifetime(t *testing.T) {
	ca := newCA(t)
	for _, request := range []Request{
		{CommonName: "x", TTL: time.Hour},
		{CommonName: "x", Client: true},
	} {
		if _, err := ca.Issue(request); err == nil {
			t.Errorf("issued %+v", request)
		}
	}
}

func TestParseCARefusesWhatIsNoAuthority(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	leaf, err := ca.Issue(Request{CommonName: "x", Client: true, Now: now, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for want, pair := range map[string]KeyPair{
		"not a certificate authority's": leaf,
		"does not belong":               {Cert: ca.KeyPair().Cert, Key: other.KeyPair().Key},
		`no PEM block "CERTIFICATE"`:    {Key: ca.KeyPair().Key},
		`no PEM block "EC PRIVATE KEY"`: {Cert: ca.KeyPair().Cert},
	} {
		if _, err := ParseCA(pair); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := ParseCA(ca.KeyPair()); err != nil {
		t.Error(err)
	}
}

func TestKeyPairNeverPrintsItsKey(t *testing.T) {
	pair := newCA(t).KeyPair()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, struct{ P KeyPair }{pair}); strings.Contains(text, "PRIVATE") || strings.Contains(text, "45 45") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
