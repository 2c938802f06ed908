package storage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
)

// machineIDFile is below the STATE mount: machine-id(5).
const machineIDFile = "machine-id"

var machineIDPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// machineID reads the node's identity, or makes it on the first boot.
func machineID(stateDir string) (string, error) {
	path := filepath.Join(stateDir, machineIDFile)
	text, err := os.ReadFile(path)
	id := strings.TrimSpace(string(text))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newMachineID(path)
	case err != nil:
		return "", fmt.Errorf("read the machine ID: %w", err)
	case !machineIDPattern.MatchString(id):
		// A new one would make a second node of this one: say so instead.
		return "", fmt.Errorf("the machine ID in %s is not 32 hexadecimal digits: the STATE partition is damaged", path)
	}
	return id, nil
}

func newMachineID(path string) (string, error) {
	var id [16]byte
	// crypto/rand does not fail: it waits for the kernel's generator.
	_, _ = rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40 // a version 4 UUID, as systemd makes them
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id[:])
	if err := writeSynced(path, []byte(text+"\n"), 0o444); err != nil {
		return "", fmt.Errorf("write the machine ID: %w", err)
	}
	return text, nil
}

// writeSynced replaces a file in one step that survives a power cut.
func writeSynced(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, content, mode, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
