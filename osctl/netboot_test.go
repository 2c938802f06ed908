package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// machineConfig is a config that a node takes.
func machineConfig(t *testing.T) []byte {
	t.Helper()
	config := machineconfig.Default()
	config.Machine.Type = machineconfig.ControlPlane
	config.Cluster.Name = "rack"
	config.Cluster.Endpoint = "https://10.0.0.5:6443"
	config.Cluster.ControlPlane.Addresses = []machineconfig.Host{"10.0.0.5"}
	var err error
	if config.Secrets, err = machineconfig.NewSecrets("rack", time.Now()); err != nil {
		t.Fatal(err)
	}
	text, err := machineconfig.Encode(config)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestConfigsByMAC(t *testing.T) {
	folder := t.TempDir()
	good := machineConfig(t)
	put := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("52-54-00-ab-cd-01.yaml", good)
	put("52:54:00:ab:cd:02.yaml", good)
	put("notes.txt", []byte("not a config"))
	if n, err := checkConfigs(folder); n != 2 || err != nil {
		t.Errorf("%d configs: %v", n, err)
	}
	for last, want := range map[byte]bool{1: true, 2: true, 3: false} {
		text, err := configByMAC(folder, net.HardwareAddr{0x52, 0x54, 0, 0xab, 0xcd, last})
		if (err == nil && string(text) == string(good)) != want || !want && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("machine %d: %d bytes, %v", last, len(text), err)
		}
	}
	for name, want := range map[string]string{
		"rack-1.yaml":            "the name is no MAC address",
		"5254.00ab.cd04.yaml":    "the name is no MAC address",
		"52-54-00-AB-CD-05.yaml": "in lower case",
		"52-54-00-ab-cd-06.yaml": `tipe`,
	} {
		put(name, []byte(strings.Replace(string(good), "type: controlplane", "tipe: controlplane", 1)))
		if _, err := checkConfigs(folder); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNetbootServeSaysWhatIsMissing(t *testing.T) {
	harness, _ := newMachineHarness(t)
	none := filepath.Join(t.TempDir(), "none")
	harness.fails(t, exitUsage, []string{"--configs FOLDER, --any, or both"}, "netboot", "serve")
	harness.fails(t, exitUsage, []string{`no network card "none"`}, "netboot", "serve", "--any", "--interface", "none")
	harness.fails(t, exitError, []string{"open the image for network boot", none}, "netboot", "serve", "--any", "--interface", "lo", "--image", none)
}
