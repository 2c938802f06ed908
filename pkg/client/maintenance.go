package client

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/keelson-os/keelson/pkg/pki"
)

// PairingCodeKey is the metadata key that carries the pairing code.
const PairingCodeKey = "keelson-pairing-code"

// Maintenance proves to a node without a config that its console was read,
// and to the user that the node is the one of that console.
type Maintenance struct {
	// Fingerprint is the SHA-256 of the node's certificate in hex, as its
	// console shows it. Colons and case do not matter.
	Fingerprint string
	// PairingCode is the code its console shows.
	PairingCode string
}

// FingerprintError says that a node is not the one whose console was read.
type FingerprintError struct {
	// Want was given by the user, Got is the certificate's.
	Want, Got string
}

func (err *FingerprintError) Error() string {
	return fmt.Sprintf("the node's certificate has the fingerprint %s, not %s: this may be another machine, or someone between you and it; compare with its console", err.Got, err.Want)
}

func (maintenance *Maintenance) tlsConfig() (*tls.Config, error) {
	want := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(maintenance.Fingerprint))
	if raw, err := hex.DecodeString(want); err != nil || len(raw) != 32 {
		return nil, errors.New("the fingerprint is not a SHA-256 in hex (64 digits): copy it from the node's console")
	}
	if maintenance.PairingCode == "" {
		return nil, errors.New("the pairing code is missing: copy it from the node's console")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The certificate is self-signed: it is checked by its fingerprint,
		// right below, instead of against an authority.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the node showed no certificate")
			}
			got := pki.Fingerprint(state.PeerCertificates[0].Raw)
			if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
				return &FingerprintError{Want: want, Got: got}
			}
			return nil
		},
	}, nil
}

// pairingCode sends the code with every call, over TLS only.
type pairingCode string

func (code pairingCode) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{PairingCodeKey: string(code)}, nil
}

func (pairingCode) RequireTransportSecurity() bool { return true }
