package provision

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMakeRuntimeDirTrustsNobody(t *testing.T) {
	tests := map[string]func(t *testing.T, parent string){
		"open to others": func(t *testing.T, parent string) {
			check(t, os.Mkdir(parent, 0o700))
			check(t, os.Chmod(parent, 0o755))
		},
		"a link":       func(t *testing.T, parent string) { check(t, os.Symlink(t.TempDir(), parent)) },
		"not a folder": func(t *testing.T, parent string) { check(t, os.WriteFile(parent, nil, 0o600)) },
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			parent := filepath.Join(t.TempDir(), "keelson")
			prepare(t, parent)
			if err := makeRuntimeDir(filepath.Join(parent, "abc")); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}

func TestChooseRuntimeDirKeepsSocketPathsShort(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	check(t, os.Mkdir(deep, 0o700))
	t.Setenv("XDG_RUNTIME_DIR", deep)
	dir, err := chooseRuntimeDir("/state/demo")
	if err != nil || !strings.HasPrefix(dir, "/tmp/keelson-") {
		t.Errorf("folder %s, error %v; want one in /tmp", dir, err)
	}
	short, err := os.MkdirTemp("/tmp", "kt")
	check(t, err)
	defer os.RemoveAll(short)
	t.Setenv("XDG_RUNTIME_DIR", short)
	if dir, err := chooseRuntimeDir("/state/demo"); err != nil || !strings.HasPrefix(dir, short+"/keelson/") {
		t.Errorf("folder %s, error %v; want one in %s", dir, err, short)
	}
}

func TestRemoveRuntimeDirsBelievesOnlyItsOwnName(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	precious := t.TempDir()
	check(t, removeRuntimeDirs("/state/demo", precious))
	if !isFolder(precious) {
		t.Error("a folder that a damaged cluster.json named was removed")
	}
}

func TestForwardsKeepTheirPorts(t *testing.T) {
	dir := t.TempDir()
	nodes := []nodeSpec{{Name: "cp-1", IP: netip.MustParseAddr("10.77.0.11")}}
	first, err := listenForwards(dir, nodes)
	check(t, err)
	recorded, err := readForwards(dir)
	check(t, err)
	if _, err := listenForwards(dir, nodes); err == nil || !strings.Contains(err.Error(), "node cp-1") {
		t.Errorf("ports in use: error %v, want one that names the node", err)
	}
	closeForwards(first)
	second, err := listenForwards(dir, nodes)
	check(t, err)
	defer closeForwards(second)
	for _, f := range second {
		want := recorded["cp-1"].API
		if f.to.Port() == kubernetesPort {
			want = recorded["cp-1"].Kubernetes
		}
		if got := f.listener.Addr().(*net.TCPAddr).AddrPort(); got != want {
			t.Errorf("forward to %s moved from %s to %s", f.to, want, got)
		}
	}
}
