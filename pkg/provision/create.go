package provision

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// Artefacts of the image build that a node boots from.
const (
	kernelFile   = "vmlinuz"
	initrdFile   = "initramfs.cpio.zst"
	rootFile     = "rootfs.img"
	rootHashFile = "rootfs.roothash"
	diskFile     = "keelson.raw"
	isoFile      = "keelson.iso"
	netbootFile  = "keelson-netboot.efi"
)

// Create makes a cluster and starts its nodes, or some of them; it does not wait
// for them to boot. The cluster lives on when this program ends. If it cannot be made,
// nothing is left of it.
func Create(ctx context.Context, opts Options) (*Cluster, error) {
	s, err := plan(opts)
	if err != nil {
		return nil, err
	}
	dir, err := clusterDir(s.Name)
	if err != nil {
		return nil, err
	}
	c := newCluster(dir, s)
	if opts.Progress != nil {
		c.progress = opts.Progress
	}
	if err := c.inspectHost(ctx, opts.Accel); err != nil {
		return nil, err
	}
	c.fitCPUs(opts.Nodes, runtime.NumCPU())
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	defer unlock()
	if err := c.build(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("make cluster %s: %w", s.Name, err), c.remove())
	}
	return c, nil
}

// fitCPUs gives one CPU, instead of the default, to each of several emulated
// machines that were given no number, when the host has fewer CPUs than they
// would: an emulated CPU that waits for a real one holds up those of its
// machine, and one with a single CPU needs half the time when it is idle.
func (c *Cluster) fitCPUs(asked []Node, hostCPUs int) {
	if c.spec.Host.Accel == qemu.KVM || len(asked) < 2 || len(asked)*DefaultCPUs <= hostCPUs {
		return
	}
	for i, node := range asked {
		if node.CPUs == 0 {
			c.spec.Nodes[i].CPUs = 1
		}
	}
}

// inspectHost finds out whether this machine can run the cluster, and how.
func (c *Cluster) inspectHost(ctx context.Context, want qemu.Accel) (err error) {
	platform, err := qemu.PlatformFor(c.spec.Arch)
	if err != nil {
		return err
	}
	if c.spec.Boot.firmware() {
		if _, _, err := platform.FindFirmware(c.spec.SecureBoot); err != nil {
			return err
		}
	} else if _, err := kernelArgs(c.spec); err != nil {
		return err
	}
	for _, name := range c.spec.Boot.artifacts() {
		if _, err := os.Stat(filepath.Join(c.spec.Artifacts, name)); err != nil {
			return missingArtefact(err)
		}
	}
	if c.spec.QEMU, err = platform.Find(ctx); err != nil {
		return err
	}
	if want == "" {
		want = qemu.Auto
	}
	if c.spec.Host, err = platform.Choose(ctx, c.spec.QEMU, want); err != nil {
		return err
	}
	if why := c.spec.Host.Why; why != "" {
		c.tell("", "KVM cannot run these machines, emulating: %s", why)
	}
	c.spec.RuntimeDir, err = chooseRuntimeDir(c.dir)
	return err
}

func missingArtefact(err error) error {
	return fmt.Errorf("the OS image is not complete: %w; run make image", err)
}

func (c *Cluster) makeDir() error {
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o700); err != nil {
		return fmt.Errorf("make the folder for clusters: %w", err)
	}
	err := os.Mkdir(c.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cluster %s already exists: use it, or run osctl cluster destroy %s first", c.Name(), c.Name())
	}
	if err != nil {
		return fmt.Errorf("make the cluster's folder: %w", err)
	}
	return syncDir(filepath.Dir(c.dir))
}

// build does the rest in the order that makes a crash harmless: what a process
// needs to be found by is on disk before it is started.
func (c *Cluster) build(ctx context.Context, opts Options) error {
	c.spec.Created = time.Now().UTC().Truncate(time.Second)
	if err := c.saveSpec(); err != nil {
		return err
	}
	if err := c.startNetwork(ctx); err != nil {
		return err
	}
	configs, err := c.configs(opts)
	if err != nil {
		return err
	}
	for i := range c.spec.Nodes {
		if err := c.prepareNode(&c.spec.Nodes[i], configs); err != nil {
			return err
		}
	}
	c.spec.Prepared = true
	if err := c.saveSpec(); err != nil {
		return err
	}
	return c.startNodes(ctx, opts.Start)
}

func (c *Cluster) saveSpec() error {
	return writeJSON(filepath.Join(c.dir, specFile), c.spec)
}

// configs collects the machine configs by node name.
func (c *Cluster) configs(opts Options) (map[string][]byte, error) {
	configs := map[string][]byte{}
	for _, node := range opts.Nodes {
		configs[node.Name] = node.Config
	}
	if opts.Configure == nil {
		return configs, nil
	}
	layout, err := c.Layout()
	if err != nil {
		return nil, err
	}
	made, err := opts.Configure(layout)
	if err != nil {
		return nil, fmt.Errorf("make the machine configs: %w", err)
	}
	for name, config := range made {
		if _, err := c.node(name); err != nil {
			return nil, fmt.Errorf("a machine config for nobody: %w", err)
		}
		configs[name] = config
	}
	return configs, nil
}

func (c *Cluster) prepareNode(n *nodeSpec, configs map[string][]byte) error {
	if err := os.MkdirAll(c.nodeFile(n.Name, ""), 0o700); err != nil {
		return fmt.Errorf("make the folder of node %s: %w", n.Name, err)
	}
	config := configs[n.Name]
	if n.HasConfig = len(config) > 0; n.HasConfig {
		if err := writeFile(c.nodeFile(n.Name, nodeConfig), config); err != nil {
			return err
		}
	}
	// QEMU would make it readable to whomever the umask lets.
	if err := createDisk(c.nodeFile(n.Name, nodeConsole), 0); err != nil {
		return err
	}
	if err := c.makeNodeVariables(*n); err != nil {
		return err
	}
	return c.makeNodeDisk(*n)
}

// kernelArgs is the nodes' kernel command line. The root hash is read at every
// start, since it belongs to the root image that is there now.
func kernelArgs(s spec) (string, error) {
	platform, err := qemu.PlatformFor(s.Arch)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.Artifacts, rootHashFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", missingArtefact(err)
	}
	hash := strings.TrimSpace(string(data))
	if _, err := hex.DecodeString(hash); err != nil || hash == "" {
		return "", fmt.Errorf("%s holds no root hash: run make image", path)
	}
	// A panic restarts the machine after five seconds, as on a server; the
	// console shows the kernel's warnings only, dmesg has the rest.
	args := append([]string{"console=" + platform.Console, "quiet", "panic=5", "keelson.roothash=" + hash}, platform.KernelArgs(s.Host.Accel)...)
	return strings.Join(append(args, s.KernelArgs...), " "), nil
}
