package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// maxUpstreams bounds every list of API servers, and maxKept the file of one,
// in bytes.
const (
	maxUpstreams = 64
	maxKept      = 16 << 10
)

// Load reads the API servers that a node knew before its reboot; no file means
// that it knew none.
func Load(path string) ([]netip.AddrPort, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the known control-plane nodes: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKept))
	if err != nil {
		return nil, fmt.Errorf("read the known control-plane nodes: %w", err)
	}
	var list []netip.AddrPort
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read the known control-plane nodes from %s: %w", path, err)
	}
	return normal(list)
}

// save replaces the file in one step. A power cut leaves the old list or the new.
func save(path string, list []netip.AddrPort) error {
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode the known control-plane nodes: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keep the known control-plane nodes: %w", err)
	}
	if err := renameio.WriteFile(path, text, 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("keep the known control-plane nodes: %w", err)
	}
	return nil
}

// normal puts a list in order, so that lists of the same servers are equal, and
// refuses what cannot be one.
func normal(list []netip.AddrPort) ([]netip.AddrPort, error) {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, netip.AddrPort.Compare)
	sorted = slices.Compact(sorted)
	if len(sorted) > maxUpstreams {
		return nil, fmt.Errorf("%d addresses of API servers; at most %d can be used", len(sorted), maxUpstreams)
	}
	for _, each := range sorted {
		if address := each.Addr(); !address.IsValid() || address.IsUnspecified() || address.IsMulticast() || each.Port() == 0 {
			return nil, fmt.Errorf("%s cannot be the address of an API server", each)
		}
	}
	return sorted, nil
}
