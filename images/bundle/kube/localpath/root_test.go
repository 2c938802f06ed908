package localpath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the environment tells this program to be, instead of the tests.
const asVariable = "KEELSON_TEST_AS"

func TestMain(m *testing.M) {
	switch as := os.Getenv(asVariable); as {
	case "":
		os.Exit(m.Run())
	case "confined":
		report(confined(os.Args[1], os.Args[2], os.Args[3]))
	case "mounted":
		report(mounted(os.Args[1], os.Args[2]))
	case "remover":
		report(removeVolume(os.Args[1]))
	default:
		report(fmt.Errorf("%s is %q", asVariable, as))
	}
}

func report(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func as(t *testing.T, what string, attributes *syscall.SysProcAttr, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asVariable+"="+what)
	cmd.SysProcAttr = attributes
	output, err := cmd.CombinedOutput()
	if strings.HasPrefix(string(output), "skip: ") {
		t.Skip(string(output))
	}
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

func removeVolume(path string) error {
	f, err := openFolder(path)
	if err != nil {
		return err
	}
	return f.remove(bounded(), "pvc-1")
}

// What pods leave belongs to any user, in folders that nobody else may write to.
// The three capabilities are enough for it, and the service has no others.
func TestRemoveWhatIsOthersWithTheServicesCapabilities(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to have files of several users")
	}
	f := newFolder(t)
	must(t, f.create("pvc-1"))
	volume := filepath.Join(f.path, "pvc-1")
	must(t, os.MkdirAll(filepath.Join(volume, "closed/below"), 0o755))
	must(t, os.WriteFile(filepath.Join(volume, "closed/below/file"), nil, 0))
	must(t, os.Mkdir(filepath.Join(volume, "sticky"), 0o777))
	must(t, os.WriteFile(filepath.Join(volume, "sticky/file"), nil, 0))
	for path, uid := range map[string]int{"closed/below/file": 999, "closed/below": 998, "closed": 997, "sticky/file": 996, "sticky": 995, "": 70} {
		must(t, os.Chown(filepath.Join(volume, path), uid, uid))
	}
	must(t, os.Chmod(filepath.Join(volume, "closed/below"), 0))
	must(t, os.Chmod(filepath.Join(volume, "closed"), 0))
	must(t, os.Chmod(filepath.Join(volume, "sticky"), os.ModeSticky|0o555))
	must(t, os.Chmod(volume, os.ModeSticky|0o700))

	const service = 110
	must(t, os.Chown(f.path, service, service))
	for dir := filepath.Dir(f.path); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	as(t, "remover", &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: service, Gid: service},
		AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER},
	}, f.path)
	isGone(t, volume)
}

// A file system that a pod mounted in its volume is not the volume's.
func TestRemoveStopsAtAMount(t *testing.T) {
	f, outside := newFolder(t), t.TempDir()
	must(t, f.create("pvc-1"))
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o600))
	as(t, "mounted", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}, f.path, outside)
	isKept(t, outside)
	must(t, f.remove(t.Context(), "pvc-1"))
}

func mounted(path, outside string) error {
	at := filepath.Join(path, "pvc-1/mounted")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("skip: no mounts for tests here: %w", err)
	}
	if err := os.WriteFile(filepath.Join(at, "precious"), []byte("x"), 0o600); err != nil {
		return err
	}
	if err := removeVolume(path); err == nil || !strings.Contains(err.Error(), "mounted there") {
		return fmt.Errorf("the folder that is mounted on: %v", err)
	}
	if _, err := os.Stat(filepath.Join(at, "precious")); err != nil {
		return err
	}
	if err := unix.Unmount(at, 0); err != nil {
		return err
	}
	// The same file system at a second place is as much out of bounds.
	if err := unix.Mount(outside, at, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := removeVolume(path); err == nil {
		return fmt.Errorf("a folder was removed with a mount in it")
	}
	return unix.Unmount(at, 0)
}

// What Landlock leaves is the folder of volumes, for folders and removal, and
// the kubeconfig's folder, for reading.
func TestConfine(t *testing.T) {
	f := newFolder(t)
	must(t, f.create("pvc-1"))
	must(t, os.WriteFile(filepath.Join(f.path, "pvc-1/data"), []byte("x"), 0o600))
	keys, others := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(keys, "kubeconfig"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(others, "key"), []byte("x"), 0o600))
	as(t, "confined", nil, f.path, keys, others)
	isGone(t, filepath.Join(f.path, "pvc-1"))
}

func confined(volumes, keys, others string) error {
	f, err := openFolder(volumes)
	if err != nil {
		return err
	}
	f.owner = os.Getuid()
	err = confine(volumes, filepath.Join(keys, "kubeconfig"))
	if errors.Is(err, errNoLandlock) || errors.Is(err, errors.ErrUnsupported) { // the latter in a build with cgo
		return fmt.Errorf("skip: %w", err)
	}
	if err != nil {
		return err
	}
	for what, try := range map[string]func() error{
		"read another's file":   func() error { _, err := os.ReadFile(filepath.Join(others, "key")); return err },
		"read a volume's file":  func() error { _, err := os.ReadFile(filepath.Join(volumes, "pvc-1/data")); return err },
		"write the kubeconfig":  func() error { return os.WriteFile(filepath.Join(keys, "kubeconfig"), nil, 0o600) },
		"remove another's file": func() error { return os.Remove(filepath.Join(others, "key")) },
		"make a file":           func() error { return os.WriteFile(filepath.Join(volumes, "new"), nil, 0o600) },
		"run a program":         func() error { return exec.Command("/proc/self/exe").Run() },
	} {
		done := make(chan error)
		go func() { done <- try() }() // on whatever thread
		if err := <-done; err == nil {
			return fmt.Errorf("it could %s", what)
		}
	}
	if _, err := os.ReadFile(filepath.Join(keys, "kubeconfig")); err != nil {
		return err
	}
	if err := f.create("pvc-2"); err != nil {
		return err
	}
	deep := filepath.Join(volumes, "pvc-2", strings.Repeat("d/", 2*maxDepth))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"pvc-1", "pvc-2"} {
		if err := f.remove(bounded(), name); err != nil {
			return err
		}
	}
	return nil
}

// bounded ends with the process, which the test's context ends.
func bounded() context.Context { return context.Background() }
