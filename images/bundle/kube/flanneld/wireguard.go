package flanneld

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// keyVariable is how flannel's WireGuard backend is told its key file, and no
// other way.
const keyVariable = "WIREGUARD_KEY_FILE"

// ensureKey makes a private key for WireGuard unless file holds one, and names
// the file to the backend. That would make a key, too, but leaves half a file behind when it is killed meanwhile, and
// then never starts again. The file is in memory: after a reboot the node has a
// new key, and announces it.
func ensureKey(file string) error {
	if err := os.Setenv(keyVariable, file); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the WireGuard key: %w", err)
	}
	if err == nil {
		if _, err := wgtypes.ParseKey(string(text)); err == nil {
			return nil
		}
	}
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		return fmt.Errorf("make a WireGuard key: %w", err)
	}
	if err := renameio.WriteFile(file, []byte(key.String()), 0o600); err != nil {
		return fmt.Errorf("keep the WireGuard key: %w", err)
	}
	return nil
}
