package join

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

// Identity is what a worker proves itself with: a key and a certificate for
// each use. It does not change.
type Identity struct {
	owner owner
	pairs map[joinpb.CertificateRequest_Use]pki.KeyPair
	// The certificates are valid together from since until until.
	since, until time.Time
}

// owner is whose identity it is. One of another owner is of no use, but that of
// the same node with other addresses is until there is a new one: it opens
// Kubernetes to the node, and nodes start without a control plane.
type owner struct {
	clusterID, hostname, machineID string
	addresses                      []netip.Addr
}

func (o owner) same(other owner) bool {
	return o.clusterID == other.clusterID && o.hostname == other.hostname && o.machineID == other.machineID
}

// isFor tells whether others can know a node at these addresses by the identity.
func (i *Identity) isFor(addresses []netip.Addr) bool {
	return slices.Equal(i.owner.addresses, addresses)
}

// Pair returns the key and the certificate of one use.
func (i *Identity) Pair(use joinpb.CertificateRequest_Use) (pki.KeyPair, error) {
	pair, ok := i.pairs[use]
	if !ok {
		return pki.KeyPair{}, fmt.Errorf("no certificate for %s was signed for this node", use)
	}
	return pair, nil
}

// Until is when the first of the certificates ends.
func (i *Identity) Until() time.Time { return i.until }

// String keeps the keys out of logs.
func (i *Identity) String() string { return "[identity of " + i.owner.hostname + "]" }

// authorities are the cluster's, as a worker knows them.
type authorities struct {
	os, kubernetes *x509.CertPool
}

func newAuthorities(secrets *machineconfig.Secrets) (authorities, error) {
	var a authorities
	for _, each := range []struct {
		name string
		pair machineconfig.KeyPair
		pool **x509.CertPool
	}{{"secrets.osCA", secrets.OSCA, &a.os}, {"secrets.kubernetesCA", secrets.KubernetesCA, &a.kubernetes}} {
		cert, err := pki.ParseCert([]byte(each.pair.Cert))
		if err != nil {
			return authorities{}, fmt.Errorf("%s: %w", each.name, err)
		}
		*each.pool = x509.NewCertPool()
		(*each.pool).AddCert(cert)
	}
	return a, nil
}

func (a authorities) of(use joinpb.CertificateRequest_Use) *x509.CertPool {
	if use == useAPIServer {
		return a.os
	}
	return a.kubernetes
}

// newIdentity puts an identity together of what was signed, or read from the
// disk, and refuses anything but a whole one of these authorities. It does not
// look at the clock, which may be wrong on a machine that just started.
func newIdentity(of owner, pairs map[joinpb.CertificateRequest_Use]pki.KeyPair, by authorities) (*Identity, error) {
	made := &Identity{owner: of, pairs: pairs}
	for _, use := range uses {
		cert, err := checkPair(pairs[use], by.of(use))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", use, err)
		}
		if made.since.IsZero() || cert.NotBefore.After(made.since) {
			made.since = cert.NotBefore
		}
		if made.until.IsZero() || cert.NotAfter.Before(made.until) {
			made.until = cert.NotAfter
		}
	}
	return made, nil
}

func checkPair(pair pki.KeyPair, by *x509.CertPool) (*x509.Certificate, error) {
	if err := pair.Check(); err != nil {
		return nil, err
	}
	cert, err := pki.ParseCert(pair.Cert)
	if err != nil {
		return nil, err
	}
	// At its own last moment, whatever the clock says; it ends before its
	// authority does.
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: by, CurrentTime: cert.NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		return nil, errors.New("the certificate is of another cluster's authority")
	}
	return cert, err
}

// renewAt is when to ask for the next identity: at a third of the life of this.
func (i *Identity) renewAt() time.Time { return i.until.Add(-i.life() * 2 / 3) }

// lateAt is when failing to renew has become a problem.
func (i *Identity) lateAt() time.Time { return i.until.Add(-i.life() / 3) }

func (i *Identity) life() time.Duration { return i.until.Sub(i.since) }
