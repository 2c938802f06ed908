package osbundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The members of a bundle, which is a tar archive, in their order. Loader is the
// boot loader, Kernel the unified kernel image, Root the root image with its hash
// tree.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"

	Loader = "systemd-boot.efi"
	Kernel = "keelson.efi"
	Root   = "rootfs.img"
)

// partNames are the parts that every bundle has, in their order: the largest is
// last, what can be refused without it first.
var partNames = []string{Loader, Kernel, Root}

// maxManifest bounds what is read before anything is known to be true, in bytes.
const maxManifest = 64 << 10

// Manifest says what is in a bundle.
type Manifest struct {
	// Version is the OS image's: "v1.37.1".
	Version string `json:"version"`
	// Build tells builds of one version apart; it may be empty.
	Build string `json:"build,omitempty"`
	// Architecture is in Go's terms: "amd64".
	Architecture string `json:"architecture"`
	// RootHash is the root hash of the root image's hash tree.
	RootHash string `json:"rootHash"`
	Parts    []Part `json:"parts"`
}

// Part is a file of a bundle.
type Part struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
	// SHA256 is in hexadecimal.
	SHA256 string `json:"sha256"`
}

// Name is version and build, for people: "v1.37.1 (build 7)".
func (m Manifest) Name() string {
	if m.Build == "" {
		return m.Version
	}
	return fmt.Sprintf("%s (build %s)", m.Version, m.Build)
}

// ErrSignature says that none of the keys signed a bundle.
var ErrSignature = errors.New("the bundle is not signed by any key that this node trusts: sign it with the key of the running image, or add its public key to machine.update.keys")

// signedPrefix keeps a signature of a bundle from being taken for one of
// something else that the same key signed.
const signedPrefix = "keelson OS bundle manifest v1\n"

func sign(key ed25519.PrivateKey, manifest []byte) []byte {
	return ed25519.Sign(key, append([]byte(signedPrefix), manifest...))
}

func verify(keys []ed25519.PublicKey, manifest, signature []byte) error {
	for _, key := range keys {
		if len(key) == ed25519.PublicKeySize && ed25519.Verify(key, append([]byte(signedPrefix), manifest...), signature) {
			return nil
		}
	}
	return ErrSignature
}

// decodeManifest reads what was signed; it does not trust the signer to make no
// mistakes.
func decodeManifest(text []byte) (Manifest, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var m Manifest
	if err := decoder.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("decode the bundle's manifest: %w", err)
	}
	if len(m.Parts) != len(partNames) {
		return Manifest{}, fmt.Errorf("the bundle has %d parts, not %d: %q", len(m.Parts), len(partNames), partNames)
	}
	for i, part := range m.Parts {
		sum, err := hex.DecodeString(part.SHA256)
		if part.Name != partNames[i] || part.Size <= 0 || err != nil || len(sum) != sha256.Size {
			return Manifest{}, fmt.Errorf("part %d of the bundle is %+v, not a %s with its size and SHA-256", i+1, part, partNames[i])
		}
	}
	if m.Version == "" || m.Architecture == "" {
		return Manifest{}, errors.New("the bundle's manifest has no version or no architecture")
	}
	return m, nil
}

// describe measures a part.
func describe(name string, content io.Reader) (Part, error) {
	sum := sha256.New()
	size, err := io.Copy(sum, content)
	return Part{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}
