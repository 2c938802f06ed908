package shop

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	deadline  = 2 * time.Minute
	again     = 50 * time.Millisecond
	password  = "it's a \\ secret"
	probeTime = 10 * time.Second
)

// pod runs the one container of a pod as its manifest says: image, arguments,
// environment, user, volumes, read-only root.
type pod struct {
	t         *testing.T
	name      string
	spec      corev1.PodSpec
	container corev1.Container
	config    v1.Config
	root      string
	cmd       *exec.Cmd
}

// newPod unpacks the container's image and mounts its volumes.
func newPod(t *testing.T, m manifests, name string) *pod {
	t.Helper()
	spec, ok := m.pods[name]
	if !ok || len(spec.Containers) != 1 {
		t.Fatalf("no pod %s of one container in the manifests", name)
	}
	p := &pod{t: t, name: name, spec: spec, container: spec.Containers[0], root: filepath.Join(os.Getenv(workDir), name, "root")}
	p.config = unpack(t, p.container.Image, p.root)
	p.mount("none", "proc", "proc", 0)
	p.devices()
	p.volumes(m)
	var hosts strings.Builder
	for service := range m.services {
		fmt.Fprintf(&hosts, "127.0.0.1 %s\n", service)
	}
	p.do(os.WriteFile(filepath.Join(p.root, "etc/hosts"), []byte(hosts.String()), 0o644))
	if readOnly := p.container.SecurityContext.ReadOnlyRootFilesystem; readOnly == nil || !*readOnly {
		t.Errorf("%s: the root file system is not read-only", name)
	}
	// A second mount of the root, for it alone to be read-only; recursive, as the
	// volumes are to stay as they are.
	p.do(syscall.Mount(p.root, p.root, "", syscall.MS_BIND|syscall.MS_REC, ""))
	p.do(syscall.Mount("none", p.root, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
	return p
}

func (p *pod) do(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("pod %s: %v", p.name, err)
	}
}

// mount mounts on a folder of the root.
func (p *pod) mount(source, target, kind string, flags uintptr) {
	p.t.Helper()
	target = filepath.Join(p.root, target)
	p.do(os.MkdirAll(target, 0o755))
	p.do(syscall.Mount(source, target, kind, flags, ""))
}

// devices are the few that a container runtime gives.
func (p *pod) devices() {
	p.mount("none", "dev", "tmpfs", 0)
	p.mount("none", "dev/shm", "tmpfs", 0)
	for _, device := range []string{"null", "zero", "random", "urandom"} {
		path := filepath.Join(p.root, "dev", device)
		p.do(os.WriteFile(path, nil, 0o666))
		p.do(syscall.Mount("/dev/"+device, path, "", syscall.MS_BIND, ""))
	}
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		p.do(os.Symlink(target, filepath.Join(p.root, "dev", link)))
	}
}

// volumes fills and mounts the container's volumes.
func (p *pod) volumes(m manifests) {
	for _, mount := range p.container.VolumeMounts {
		dir := filepath.Join(os.Getenv(workDir), p.name, mount.Name)
		p.do(os.MkdirAll(dir, 0o755))
		for name, content := range p.content(m, mount.Name, dir) {
			file := filepath.Join(dir, name)
			p.do(os.WriteFile(file, []byte(content), 0o440))
			p.do(os.Chown(file, 0, int(*p.group())))
		}
		p.mount(dir, mount.MountPath, "", syscall.MS_BIND)
	}
}

// group is the group that files of volumes belong to.
func (p *pod) group() *int64 {
	if p.spec.SecurityContext.FSGroup != nil {
		return p.spec.SecurityContext.FSGroup
	}
	return p.spec.SecurityContext.RunAsGroup
}

// content is what is in a volume at the start; a folder that is to be written
// to is made so.
func (p *pod) content(m manifests, volume, dir string) map[string]string {
	for _, v := range p.spec.Volumes {
		switch {
		case v.Name != volume:
		case v.ConfigMap != nil:
			return m.configs[v.ConfigMap.Name]
		case v.Secret != nil:
			return map[string]string{"password": password}
		case v.EmptyDir != nil:
			p.do(os.Chmod(dir, 0o777))
			return nil
		}
	}
	for _, claim := range m.claims {
		if claim.Name == volume {
			p.do(os.Chown(dir, 0, int(*p.group())))
			p.do(os.Chmod(dir, 0o2770))
			return nil
		}
	}
	p.t.Fatalf("pod %s: no volume %s", p.name, volume)
	return nil
}

// command is a program in the container, as its user.
func (p *pod) command(args []string) *exec.Cmd {
	env := p.config.Env
	path := "PATH=/usr/bin:/usr/sbin"
	for _, each := range env {
		if strings.HasPrefix(each, "PATH=") {
			path = each
		}
	}
	for _, each := range p.container.Env {
		env = append(env, each.Name+"="+each.Value)
	}
	program := args[0]
	for _, dir := range strings.Split(strings.TrimPrefix(path, "PATH="), ":") {
		if filepath.IsAbs(program) {
			break
		}
		if _, err := os.Stat(filepath.Join(p.root, dir, args[0])); err == nil {
			program = filepath.Join(dir, args[0])
		}
	}
	security := p.spec.SecurityContext
	return &exec.Cmd{
		Path: program, Args: args, Env: append(env, path), Dir: "/",
		SysProcAttr: &syscall.SysProcAttr{
			Chroot:     p.root,
			Credential: &syscall.Credential{Uid: uint32(*security.RunAsUser), Gid: uint32(*security.RunAsGroup), Groups: []uint32{uint32(*p.group())}},
		},
	}
}

// start starts the container.
func (p *pod) start() {
	p.t.Helper()
	log, err := os.OpenFile(filepath.Join(os.Getenv(workDir), p.name, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	p.do(err)
	defer log.Close()
	// As a container runtime does: the program may open its output by name.
	p.do(log.Chown(int(*p.spec.SecurityContext.RunAsUser), -1))
	args := p.config.Entrypoint
	if len(p.container.Command) > 0 {
		args = p.container.Command
	}
	p.cmd = p.command(append(args, p.container.Args...))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.do(p.cmd.Start())
}

// stop ends the container as kubelet would, by the image's signal, and waits
// for it.
func (p *pod) stop() {
	p.t.Helper()
	signals := map[string]syscall.Signal{"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "SIGINT": syscall.SIGINT}
	signal, ok := signals[p.config.StopSignal]
	if !ok {
		p.t.Fatalf("pod %s: unexpected stop signal %s", p.name, p.config.StopSignal)
	}
	p.do(p.cmd.Process.Signal(signal))
	killer := time.AfterFunc(deadline, func() { _ = p.cmd.Process.Kill() })
	defer killer.Stop()
	p.do(p.cmd.Wait())
}

// ready waits until the probes of the manifest say so.
func (p *pod) ready() {
	p.t.Helper()
	for _, probe := range []*corev1.Probe{p.container.StartupProbe, p.container.ReadinessProbe, p.container.LivenessProbe} {
		if probe == nil {
			continue
		}
		eventually(p.t, p.name+" is ready", func() error { return p.probe(probe) })
	}
}

func (p *pod) probe(probe *corev1.Probe) error {
	switch {
	case probe.Exec != nil:
		if out, err := p.command(probe.Exec.Command).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", probe.Exec.Command, err, out)
		}
		return nil
	case probe.HTTPGet != nil:
		client := http.Client{Timeout: probeTime}
		response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", probe.HTTPGet.Port.IntValue(), probe.HTTPGet.Path))
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", probe.HTTPGet.Path, response.Status)
		}
		return nil
	case probe.TCPSocket != nil:
		return reach(probe.TCPSocket.Port.IntValue())
	}
	return fmt.Errorf("unexpected probe %v", probe)
}

// log is what the container has printed.
func (p *pod) log() string {
	text, err := os.ReadFile(filepath.Join(os.Getenv(workDir), p.name, "log"))
	if err != nil {
		return err.Error() // it was not started
	}
	return string(text)
}
