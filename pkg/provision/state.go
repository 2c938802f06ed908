package provision

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// spec is cluster.json: what the cluster is, settled when it was made. What
// its processes are doing is in files of their own.
type spec struct {
	Version    int       `json:"version"`
	Name       string    `json:"name"`
	Created    time.Time `json:"created"`
	Artifacts  string    `json:"artifacts"`
	Boot       Boot      `json:"boot,omitempty"`
	SecureBoot string    `json:"secureBoot,omitempty"`
	KernelArgs []string  `json:"kernelArgs,omitempty"`
	// Arch is the machines' architecture, in Go's terms.
	Arch           string       `json:"arch"`
	Internet       bool         `json:"internet"`
	Subnet         netip.Prefix `json:"subnet"`
	NetworkCommand []string     `json:"networkCommand,omitempty"`
	QEMU           string       `json:"qemu"`
	Host           qemu.Choice  `json:"host"`
	RuntimeDir     string       `json:"runtimeDir"`
	Nodes          []nodeSpec   `json:"nodes"`
	// NextNumber is that of the next node to be added: numbers are not used again.
	NextNumber int `json:"nextNumber"`
	// Prepared says that every node has its config and disk: from here on the
	// cluster can be started again whatever happens.
	Prepared bool `json:"prepared"`
	// Bootstrapped is what SetBootstrapped noted.
	Bootstrapped bool `json:"bootstrapped,omitempty"`
}

// specVersion is raised when an older program could not understand the file.
const specVersion = 1

type nodeSpec struct {
	Name string `json:"name"`
	// Number tells the node's place in the subnet and its sockets; it stays when
	// other nodes go.
	Number       int        `json:"number"`
	ControlPlane bool       `json:"controlPlane"`
	CPUs         int        `json:"cpus"`
	MemoryMiB    int        `json:"memoryMiB"`
	DiskMiB      int        `json:"diskMiB"`
	IP           netip.Addr `json:"ip"`
	MAC          string     `json:"mac"`
	HasConfig    bool       `json:"hasConfig"`
}

// gateway is the subnet's first address.
func (s spec) gateway() netip.Addr { return s.Subnet.Addr().Next() }

// domain is the DNS zone of the nodes' names; .internal is reserved for private use.
func (s spec) domain() string { return s.Name + ".internal" }

func (s spec) layout(forwards map[string]nodeForwards) Layout {
	l := Layout{Name: s.Name, Subnet: s.Subnet, Gateway: s.gateway()}
	for _, n := range s.Nodes {
		l.Nodes = append(l.Nodes, NodeLayout{
			Name: n.Name, ControlPlane: n.ControlPlane, IP: n.IP, MAC: n.MAC,
			API: forwards[n.Name].API, Kubernetes: forwards[n.Name].Kubernetes,
		})
	}
	return l
}

// Files of a cluster's folder.
const (
	specFile     = "cluster.json"
	forwardsFile = "forwards.json"
	faultsFile   = "faults.json"
	networkLog   = "network.log"
	networkRef   = "network.pid.json"
	nodesDir     = "nodes"
	nodeConfig   = "config.yaml"
	nodeDisk     = "data.img"
	nodeConsole  = "console.log"
	nodeLog      = "qemu.log"
	nodeRef      = "qemu.pid.json"
	// nodeVariables are the firmware's.
	nodeVariables = "firmware.vars"
)

// Dir is where the user's clusters are kept: the folder keelson/clusters in
// $XDG_STATE_HOME, or else in ~/.local/state.
func Dir() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // the specification says to ignore others
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the folder for clusters: %w; set XDG_STATE_HOME", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "keelson", "clusters"), nil
}

// clusterDir is the folder of one cluster, whether it exists or not.
func clusterDir(name string) (string, error) {
	if err := checkName("cluster", name); err != nil {
		return "", err
	}
	dir, err := Dir()
	return filepath.Join(dir, name), err
}

func readSpec(dir string) (spec, error) {
	var s spec
	if err := readJSON(filepath.Join(dir, specFile), &s); err != nil {
		return spec{}, err
	}
	if s.Version != specVersion {
		return spec{}, fmt.Errorf("%s has version %d, this program knows %d: destroy the cluster and make it again",
			filepath.Join(dir, specFile), s.Version, specVersion)
	}
	// A file from before there were others knows one architecture only.
	s.Arch = cmp.Or(s.Arch, "amd64")
	// A file from before nodes could be removed has no numbers: they were the
	// places in the list, and only the first node's was zero.
	for i := range s.Nodes {
		if i > 0 && s.Nodes[i].Number == 0 {
			s.Nodes[i].Number = i
		}
		s.NextNumber = max(s.NextNumber, s.Nodes[i].Number+1)
	}
	return s, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err // os names operation and path
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile replaces a file as a whole: after a crash there is the old one or
// the new one. Only the user may read it.
func writeFile(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes names that were created or renamed in a folder last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// createDisk makes a sparse image; an existing one keeps its contents.
func createDisk(path string, sizeMiB int) error {
	disk, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := disk.Truncate(int64(sizeMiB) << 20); err != nil {
		disk.Close()
		return fmt.Errorf("make disk %s of %d MiB: %w", path, sizeMiB, err)
	}
	return disk.Close()
}
