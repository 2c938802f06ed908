package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keelson-os/keelson/pkg/provision/process"
	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

// startTimeout bounds how long a process may take until it answers on its
// socket: some ten milliseconds on an idle machine, seconds on a crowded one.
const startTimeout = 60 * time.Second

// Up starts what does not run of the cluster, for example after the host was
// rebooted: the network and the nodes, or of those only some. What runs is left alone.
func (c *Cluster) Up(ctx context.Context, only ...string) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.checkPrepared(); err != nil {
		return err
	}
	if err := c.startNetwork(ctx); err != nil {
		return err
	}
	return c.startNodes(ctx, only)
}

func (c *Cluster) checkPrepared() error {
	s, err := readSpec(c.dir) // may have changed since Open
	if err != nil {
		return err
	}
	if !s.Prepared {
		return fmt.Errorf("cluster %s was never made completely: run osctl cluster destroy %s and make it again", c.Name(), c.Name())
	}
	c.spec = s
	return nil
}

// SetBootstrapped notes that the nodes have formed a cluster, so that nobody
// asks one of them, which lost its disk, to be the first of a new one.
func (c *Cluster) SetBootstrapped(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.checkPrepared(); err != nil {
		return err
	}
	c.spec.Bootstrapped = true
	return c.saveSpec()
}

func (c *Cluster) startNetwork(ctx context.Context) error {
	if err := makeRuntimeDir(c.spec.RuntimeDir); err != nil {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	argv, err := c.networkCommand()
	if err != nil {
		return err
	}
	return c.ensure(ctx, background{
		what: "network",
		ref:  filepath.Join(c.dir, networkRef),
		command: process.Command{
			Argv: argv,
			Mark: c.mark("network"),
			Log:  filepath.Join(c.dir, networkLog),
		},
		answers: func(ctx context.Context) error {
			_, err := c.control().status(ctx)
			return err
		},
	})
}

func (c *Cluster) networkCommand() ([]string, error) {
	if len(c.spec.NetworkCommand) > 0 {
		return append(append([]string(nil), c.spec.NetworkCommand...), c.dir), nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program to run the network: %w", err)
	}
	return []string{self, "cluster", "network", "--dir", c.dir}, nil
}

// startNodes starts the nodes of these names, or all if there are none.
func (c *Cluster) startNodes(ctx context.Context, only []string) error {
	for _, name := range only {
		if _, err := c.node(name); err != nil {
			return err
		}
	}
	for _, n := range c.spec.Nodes {
		if len(only) > 0 && !slices.Contains(only, n.Name) {
			continue
		}
		if err := c.startNode(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startNode(ctx context.Context, n nodeSpec) error {
	machine, err := c.machine(n)
	if err != nil {
		return err
	}
	return c.ensure(ctx, background{
		node: n.Name,
		what: "machine",
		ref:  c.nodeFile(n.Name, nodeRef),
		command: process.Command{
			Argv: append([]string{c.spec.QEMU}, machine.Args()...),
			Mark: c.nodeMark(n.Name),
			Log:  c.nodeFile(n.Name, nodeLog),
		},
		answers: func(ctx context.Context) error {
			_, err := qemu.RunState(ctx, machine.QMPSocket)
			return err
		},
	})
}

func (c *Cluster) machine(n nodeSpec) (qemu.Machine, error) {
	platform, err := qemu.PlatformFor(c.spec.Arch)
	if err != nil {
		return qemu.Machine{}, err
	}
	m := qemu.Machine{
		Name:      "keelson-" + c.Name() + "-" + n.Name,
		Platform:  platform,
		Accel:     c.spec.Host.Accel,
		Sandbox:   c.spec.Host.Sandbox,
		CPUs:      n.CPUs,
		MemoryMiB: n.MemoryMiB,
		DataDisk:  c.nodeFile(n.Name, nodeDisk),
		MAC:       n.MAC,
		NetSocket: netSocket(c.spec.RuntimeDir, n.Number),
		QMPSocket: qmpSocket(c.spec.RuntimeDir, n.Number),
		Console:   c.Console(n.Name),
	}
	if err := c.bootFrom(n, &m); err != nil {
		return qemu.Machine{}, err
	}
	return m, nil
}

// background is a process that the cluster needs running.
type background struct {
	node    string // "" for the cluster's own
	what    string
	ref     string // the file that names the process
	command process.Command
	// answers returns nil once the process does its work.
	answers func(ctx context.Context) error
}

// ensure starts the process unless it runs, and waits until it answers.
func (c *Cluster) ensure(ctx context.Context, b background) error {
	running, err := findProcess(b.ref, b.command.Mark)
	if err != nil || running != (process.Ref{}) {
		return err
	}
	c.tell(b.node, "starting the %s", b.what)
	started, err := process.Start(b.command)
	if err != nil {
		return err
	}
	if err := writeJSON(b.ref, started.Ref); err != nil {
		return errors.Join(err, started.Kill(startTimeout))
	}
	if err := await(ctx, started.Exited, b.answers); err != nil {
		return fmt.Errorf("the %s of %s%s did not start: %w%s", b.what, c.Name(), prefixed(" node ", b.node), err, tail(b.command.Log))
	}
	return nil
}

// findProcess returns the running process that a ref file names; or one that
// bears the mark without having been noted, because its starter was killed in between.
func findProcess(refFile, mark string) (process.Ref, error) {
	var ref process.Ref
	if err := readJSON(refFile, &ref); err == nil && ref.Alive() {
		return ref, nil
	}
	found, err := process.Find(func(m string) bool { return m == mark })
	if err != nil || len(found) == 0 {
		return process.Ref{}, err
	}
	return found[0], writeJSON(refFile, found[0])
}

// await polls until answers succeeds or the process is gone.
func await(ctx context.Context, exited <-chan error, answers func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case exit := <-exited:
			return fmt.Errorf("it ended (%v)", exit)
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		}
	}
}

// tail is the end of a log, to be put behind an error.
func tail(path string) string {
	const most = 2048
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || len(bytes.TrimSpace(data)) == 0 {
		return ""
	}
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return fmt.Sprintf("; the end of %s:\n%s", path, bytes.TrimSpace(data))
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// Marks tie processes to the cluster's folder; see package process.

func (c *Cluster) mark(role string) string { return markPrefix(c.dir) + role }

func (c *Cluster) nodeMark(node string) string { return c.mark("node/" + node) }

func markPrefix(dir string) string { return dir + ":" }
