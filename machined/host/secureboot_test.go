package host_test

import (
	"testing"
	"testing/fstest"

	"github.com/keelson-os/keelson/machined/host"
)

func TestSecureBoot(t *testing.T) {
	for value, want := range map[byte]bool{0: false, 1: false, 2: false, 3: true} {
		params := make([]byte, 4096)
		params[0x1ec] = value
		if got := host.SecureBoot(fstest.MapFS{"sys/kernel/boot_params/data": {Data: params}}); got != want {
			t.Errorf("state %d: %v", value, got)
		}
	}
	if host.SecureBoot(fstest.MapFS{}) {
		t.Error("a machine without EFI has Secure Boot")
	}
}
