package join

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/pki"
)

// Dir is where a worker keeps its identity, closed to everyone but root.
const Dir = "/var/lib/keelson/identity"

// The identity is one file, so that no part of it can be of another time than
// the rest. A new one is written under a name of its own first: always the same,
// so that power cuts leave at most one behind.
const (
	identityFile = "identity.json"
	newFile      = "identity.json.new"
	// maxIdentity is bytes; seven pairs have about 9 KiB.
	maxIdentity = 256 << 10
)

// stored is an identity's form on disk.
type stored struct {
	ClusterID string                `json:"clusterID"`
	Hostname  string                `json:"hostname"`
	MachineID string                `json:"machineID"`
	Addresses []netip.Addr          `json:"addresses"`
	Pairs     map[string]storedPair `json:"pairs"` // by use
}

type storedPair struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// errNone says that there is no identity on the disk.
var errNone = errors.New("the node has not joined yet")

// load reads the identity. Whatever is wrong with it is a reason to join anew.
func load(dir string, of owner, by authorities, now time.Time) (*Identity, error) {
	file, err := os.Open(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNone
	}
	if err != nil {
		return nil, fmt.Errorf("open the node's identity: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxIdentity))
	if err != nil {
		return nil, fmt.Errorf("read the node's identity: %w", err)
	}
	return decode(text, of, by, now)
}

func decode(text []byte, of owner, by authorities, now time.Time) (*Identity, error) {
	var s stored
	// The error is not told: it might quote a key.
	if json.Unmarshal(text, &s) != nil {
		return nil, errors.New("the node's identity is damaged")
	}
	kept := owner{s.ClusterID, s.Hostname, s.MachineID, s.Addresses}
	if !kept.same(of) {
		return nil, fmt.Errorf("the node was %s: its name, its machine ID or its cluster changed", kept.hostname)
	}
	pairs := map[joinpb.CertificateRequest_Use]pki.KeyPair{}
	for name, pair := range s.Pairs {
		use := joinpb.CertificateRequest_Use(joinpb.CertificateRequest_Use_value[name])
		pairs[use] = pki.KeyPair{Cert: []byte(pair.Cert), Key: []byte(pair.Key)}
	}
	identity, err := newIdentity(kept, pairs, by)
	if err != nil {
		return nil, fmt.Errorf("the node's identity: %w", err)
	}
	// That it is not valid yet is the clock's mistake, not the identity's.
	if now.After(identity.until) {
		return nil, fmt.Errorf("the node's identity ended at %s", identity.until.UTC().Format(time.RFC3339))
	}
	return identity, nil
}

func encode(identity *Identity) ([]byte, error) {
	of := identity.owner
	s := stored{
		ClusterID: of.clusterID, Hostname: of.hostname, MachineID: of.machineID, Addresses: of.addresses,
		Pairs: map[string]storedPair{},
	}
	for use, pair := range identity.pairs {
		s.Pairs[use.String()] = storedPair{string(pair.Cert), string(pair.Key)}
	}
	return json.MarshalIndent(s, "", "  ")
}

// save replaces the identity in one step that survives a power cut: the old one
// is there, or the new one.
func save(dir string, identity *Identity) error {
	text, err := encode(identity)
	if err == nil {
		err = write(dir, text)
	}
	if err != nil {
		return fmt.Errorf("keep the node's identity: %w", err)
	}
	return nil
}

func write(dir string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	next := filepath.Join(dir, newFile)
	// What a power cut left of it may have other rights.
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(dir, identityFile)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
