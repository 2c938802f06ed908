package machineconfig

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

// CATTL is how long a new cluster's certificate authorities are valid.
const CATTL = 10 * 365 * 24 * time.Hour

// encryptionKeyBytes is what Kubernetes' secretbox provider asks for.
const encryptionKeyBytes = 32

// NewSecrets makes the secrets of a new cluster.
func NewSecrets(clusterName string, now time.Time) (*Secrets, error) {
	secrets := &Secrets{}
	for _, ca := range []struct {
		name string
		pair *KeyPair
	}{
		{"os", &secrets.OSCA},
		{"kubernetes", &secrets.KubernetesCA},
		{"etcd", &secrets.EtcdCA},
		{"aggregator", &secrets.AggregatorCA},
	} {
		made, err := pki.NewCA(clusterName+" "+ca.name+" CA", now, CATTL)
		if err != nil {
			return nil, err
		}
		pair := made.KeyPair()
		*ca.pair = KeyPair{Cert: string(pair.Cert), Key: Secret(pair.Key)}
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, fmt.Errorf("make the service account key: %w", err)
	}
	secrets.ServiceAccountKey = Secret(key)
	secrets.EncryptionKey = Secret(base64.StdEncoding.EncodeToString(randomBytes(encryptionKeyBytes)))
	secrets.ClusterID = hex.EncodeToString(randomBytes(16))
	secrets.JoinToken = Secret(base64.RawURLEncoding.EncodeToString(randomBytes(32)))
	return secrets, nil
}

// ForWorker returns the part of the secrets that a worker holds: it can check
// the others' certificates and prove itself, and sign nothing.
func (secrets *Secrets) ForWorker() *Secrets {
	return &Secrets{
		ClusterID:    secrets.ClusterID,
		JoinToken:    secrets.JoinToken,
		OSCA:         KeyPair{Cert: secrets.OSCA.Cert},
		KubernetesCA: KeyPair{Cert: secrets.KubernetesCA.Cert},
	}
}

// randomBytes never fails: crypto/rand ends the program instead.
func randomBytes(count int) []byte {
	bytes := make([]byte, count)
	_, _ = rand.Read(bytes)
	return bytes
}
