package provision

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/keelson-os/keelson/pkg/provision/qemu"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// Options say what cluster to make.
type Options struct {
	// Name is a DNS label, unique among the user's clusters.
	Name  string
	Nodes []Node
	// Artifacts is the folder that holds what Boot needs: vmlinuz,
	// initramfs.cpio.zst, rootfs.img and rootfs.roothash, or keelson.raw, or
	// keelson.iso, or keelson-netboot.efi.
	Artifacts string
	// Boot is BootDirect unless set.
	Boot Boot
	// SecureBoot, if set, is a file of UEFI variables that have the keys of Secure
	// Boot, which machines begin with; BootDirect has no use for it.
	SecureBoot string
	// ExtraKernelArgs go to the end of every node's kernel command line; only
	// BootDirect has a use for them.
	ExtraKernelArgs []string
	// Internet lets the nodes out; without it nothing they send leaves the machine.
	Internet bool
	// Arch is the architecture of the machines and of their image, in Go's terms;
	// this host's unless set.
	Arch string
	// Accel is qemu.Auto unless set.
	Accel qemu.Accel
	// Subnet is DefaultSubnet unless set: the gateway is its first address,
	// nodes begin at the eleventh.
	Subnet netip.Prefix
	// NetworkCommand runs RunNetwork for the folder appended to it as last
	// argument. If not set it is this program with "cluster network --dir".
	NetworkCommand []string
	// Configure, if set, is called when addresses and forwards are settled and
	// before the nodes start; it returns machine configs by node name, which
	// win over Node.Config.
	Configure func(Layout) (map[string][]byte, error)
	// Start names the nodes to switch on; the others are made and left off, for
	// Up. All of them are if it is nil.
	Start []string
	// Progress, if set, is told of each step as it begins.
	Progress func(Event)
}

// Node is one machine of a cluster. Zero sizes mean the defaults.
type Node struct {
	// Name is a DNS label and the machine's hostname by DHCP.
	Name         string
	ControlPlane bool
	CPUs         int
	MemoryMiB    int
	DiskMiB      int
	// Config is the machine config; a node without one boots into maintenance.
	Config []byte
}

// Event is one step of making or starting a cluster.
type Event struct {
	// Node is "" for what concerns the whole cluster.
	Node    string
	Message string
}

// Default sizes: what a one-node cluster needs with room for some workloads.
const (
	DefaultCPUs      = 2
	DefaultMemoryMiB = 2560
	DefaultDiskMiB   = 8192
)

// Smallest sizes that are accepted; below them a node cannot work.
const (
	minMemoryMiB = 128
	minDiskMiB   = 512
)

// DefaultSubnet is the nodes' network unless Options say otherwise.
var DefaultSubnet = netip.MustParsePrefix("10.77.0.0/24")

// firstNode is the first node's place in the subnet.
const firstNode = 11

// Layout is what is known of a cluster before its nodes boot.
type Layout struct {
	Name    string       `json:"name"`
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
	Nodes   []NodeLayout `json:"nodes"`
}

// NodeLayout is where one node is and will be reachable.
type NodeLayout struct {
	Name         string     `json:"name"`
	ControlPlane bool       `json:"controlPlane"`
	IP           netip.Addr `json:"ip"`
	MAC          string     `json:"mac"`
	// API and Kubernetes are addresses on the host that lead to the node's OS
	// API and Kubernetes API; not valid until the network has run once.
	API        netip.AddrPort `json:"api,omitzero"`
	Kubernetes netip.AddrPort `json:"kubernetes,omitzero"`
}

// Plan checks options and returns the addresses that Create will use.
func Plan(opts Options) (Layout, error) {
	s, err := plan(opts)
	if err != nil {
		return Layout{}, err
	}
	return s.layout(nil), nil
}

// label is a DNS label (RFC 1123).
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// plan checks options and settles everything that does not depend on the host.
func plan(opts Options) (spec, error) {
	if err := checkName("cluster", opts.Name); err != nil {
		return spec{}, err
	}
	artifacts, err := filepath.Abs(opts.Artifacts)
	if err != nil {
		return spec{}, fmt.Errorf("find artefacts in %s: %w", opts.Artifacts, err)
	}
	network, err := absoluteCommand(opts.NetworkCommand)
	if err != nil {
		return spec{}, fmt.Errorf("find the network process's program: %w", err)
	}
	subnet := opts.Subnet
	if !subnet.IsValid() {
		subnet = DefaultSubnet
	}
	if !subnet.Addr().Is4() || subnet.Bits() < 8 || subnet.Bits() > 28 {
		return spec{}, fmt.Errorf("subnet %s: must be an IPv4 network of /8 to /28", subnet)
	}
	boot, err := ParseBoot(string(opts.Boot))
	if err != nil {
		return spec{}, err
	}
	if boot != BootDirect && len(opts.ExtraKernelArgs) > 0 {
		return spec{}, fmt.Errorf("machines that boot from %s have their kernel command line in the image: build one with the arguments that you want", boot)
	}
	if boot == BootDirect && opts.SecureBoot != "" {
		return spec{}, errors.New("machines that QEMU gives their kernel have no Secure Boot: boot them from a disk, a medium or the network")
	}
	platform, err := qemu.PlatformFor(cmp.Or(opts.Arch, runtime.GOARCH))
	if err != nil {
		return spec{}, err
	}
	secureBoot := opts.SecureBoot
	if secureBoot != "" {
		if secureBoot, err = filepath.Abs(secureBoot); err != nil {
			return spec{}, fmt.Errorf("find the firmware's variables: %w", err)
		}
	}
	s := spec{
		Version:        specVersion,
		SecureBoot:     secureBoot,
		Boot:           boot,
		Arch:           platform.Arch,
		Name:           opts.Name,
		Artifacts:      artifacts,
		KernelArgs:     opts.ExtraKernelArgs,
		Internet:       opts.Internet,
		Subnet:         subnet.Masked(),
		NetworkCommand: network,
	}
	if len(opts.Nodes) == 0 {
		return spec{}, errors.New("a cluster needs at least one node")
	}
	if s.Nodes, err = s.planNodes(opts.Nodes); err != nil {
		return spec{}, err
	}
	return s, nil
}

// absoluteCommand finds a command's program now: it will run elsewhere and later.
func absoluteCommand(argv []string) ([]string, error) {
	if len(argv) == 0 {
		return nil, nil
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	return append([]string{program}, argv[1:]...), nil
}

// planNodes gives nodes the next numbers, and with them their addresses.
func (s *spec) planNodes(nodes []Node) ([]nodeSpec, error) {
	taken := map[string]bool{vnet.GatewayPort: true, netbootPort: true}
	for _, n := range s.Nodes {
		taken[n.Name] = true
	}
	var planned []nodeSpec
	for _, node := range nodes {
		ip, err := s.address(s.NextNumber)
		if err != nil {
			return nil, err
		}
		n, err := planNode(node, s.NextNumber, ip)
		if err != nil {
			return nil, err
		}
		if taken[n.Name] {
			return nil, fmt.Errorf("node name %s is taken", n.Name)
		}
		taken[n.Name] = true
		planned = append(planned, n)
		s.NextNumber++
	}
	return planned, nil
}

// address is where the node of a number is.
func (s *spec) address(number int) (netip.Addr, error) {
	ip := s.Subnet.Addr()
	for range firstNode + number {
		ip = ip.Next()
	}
	if !s.Subnet.Contains(ip.Next()) { // the last address is for broadcasts
		return netip.Addr{}, fmt.Errorf("subnet %s has no room for node number %d: addresses are not used twice", s.Subnet, number+1)
	}
	return ip, nil
}

func planNode(node Node, number int, ip netip.Addr) (nodeSpec, error) {
	if err := checkName("node", node.Name); err != nil {
		return nodeSpec{}, err
	}
	octets := ip.As4()
	n := nodeSpec{
		Name:         node.Name,
		Number:       number,
		ControlPlane: node.ControlPlane,
		CPUs:         orDefault(node.CPUs, DefaultCPUs),
		MemoryMiB:    orDefault(node.MemoryMiB, DefaultMemoryMiB),
		DiskMiB:      orDefault(node.DiskMiB, DefaultDiskMiB),
		IP:           ip,
		// 52:54 is QEMU's locally administered prefix.
		MAC: fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", octets[0], octets[1], octets[2], octets[3]),
	}
	switch {
	case n.CPUs < 1:
		return nodeSpec{}, fmt.Errorf("node %s: %d CPUs: must be at least 1", n.Name, n.CPUs)
	case n.MemoryMiB < minMemoryMiB:
		return nodeSpec{}, fmt.Errorf("node %s: %d MiB of memory: must be at least %d", n.Name, n.MemoryMiB, minMemoryMiB)
	case n.DiskMiB < minDiskMiB:
		return nodeSpec{}, fmt.Errorf("node %s: %d MiB of disk: must be at least %d", n.Name, n.DiskMiB, minDiskMiB)
	}
	return n, nil
}

func checkName(what, name string) error {
	if !label.MatchString(name) {
		return fmt.Errorf("%s name %q: use at most 63 small letters, digits and hyphens, none of them at the ends a hyphen", what, name)
	}
	return nil
}

func orDefault(value, standard int) int {
	if value == 0 {
		return standard
	}
	return value
}
