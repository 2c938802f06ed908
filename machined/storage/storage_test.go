package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/hosttest"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

// loopDisk is a loop device over a file without blocks. It skips the test where
// that cannot be had.
func loopDisk(t *testing.T, size int64) string {
	t.Helper()
	for _, program := range []string{mke2fs, e2fsck} {
		if _, err := os.Stat(program); err != nil {
			t.Skip("e2fsprogs is not installed: ", err)
		}
	}
	return hosttest.LoopDevice(t, emptyDisk(t, size), 0, 0, unix.LO_FLAGS_PARTSCAN)
}

func testOptions(t *testing.T, disk string) Options {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		Disk:          disk,
		OS:            host.Linux{},
		Log:           slog.New(slog.NewTextHandler(t.Output(), nil)),
		StateDir:      filepath.Join(dir, "state"),
		VarDir:        filepath.Join(dir, "var"),
		MachineIDPath: filepath.Join(dir, "run/machine-id"),
		Deadline:      30 * time.Second,
	}
	for _, d := range []string{o.StateDir, o.VarDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func open(t *testing.T, o Options) *Storage {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.unmountAll() }) // when the test failed before Close
	return s
}

func closeStorage(t *testing.T, s *Storage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestFirstAndSecondBoot(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	s := open(t, o)
	if !s.Formatted {
		t.Error("an empty disk was not formatted")
	}
	kept := filepath.Join(o.VarDir, "lib/kept")
	if err := os.WriteFile(kept, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A volume and a container's overlay have to go before /var can.
	volume, overlay := filepath.Join(o.VarDir, "tmp/volume"), t.TempDir()
	for _, d := range []string{volume, o.VarDir + "/tmp/upper", o.VarDir + "/tmp/work", o.VarDir + "/tmp/lower"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", volume, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	layers := "lowerdir=" + o.VarDir + "/tmp/lower,upperdir=" + o.VarDir + "/tmp/upper,workdir=" + o.VarDir + "/tmp/work"
	if err := unix.Mount("overlay", overlay, "overlay", 0, layers); err != nil {
		t.Log("no overlay here: ", err)
	}
	closeStorage(t, s)
	if _, err := os.Stat(kept); err == nil {
		t.Error("/var is still mounted")
	}

	again := open(t, o)
	if again.Formatted || again.MachineID != s.MachineID {
		t.Errorf("second boot: formatted %v, machine ID %s, first %s", again.Formatted, again.MachineID, s.MachineID)
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != "data" {
		t.Errorf("kept data: %q, %v", data, err)
	}
	if id, err := os.ReadFile(o.MachineIDPath); err != nil || strings.TrimSpace(string(id)) != s.MachineID {
		t.Errorf("machine ID for /etc: %q, %v", id, err)
	}
	if info, err := os.Stat(o.StateDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the state directory: %v, %v", info.Mode(), err)
	}
	if target, err := os.Readlink(filepath.Join(o.VarDir, "run")); err != nil || target != "/run" {
		t.Errorf("/var/run leads to %q, %v", target, err)
	}
	closeStorage(t, again)
}

func TestFirstFormatIsFinishedAfterAPowerCut(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	cut := errors.New("power cut")
	o.OS = failing{host.Linux{}, osdisk.Ephemeral.Name, cut}
	if s, err := Open(t.Context(), o); !errors.Is(err, cut) {
		t.Fatalf("%+v, %v", s, err)
	}
	o.OS = host.Linux{}
	s := open(t, o)
	if !s.Formatted {
		t.Error("the first format was not finished")
	}
	closeStorage(t, s)
}

// failing makes mke2fs fail for one partition.
type failing struct {
	host.OS
	label string
	err   error
}

func (f failing) Run(ctx context.Context, path string, args ...string) (string, error) {
	if path == mke2fs && strings.Contains(strings.Join(args, " "), "-L "+f.label) {
		return "", f.err
	}
	return f.OS.Run(ctx, path, args...)
}

func TestForeignDiskIsNotTouched(t *testing.T) {
	disk := loopDisk(t, testSize)
	if output, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	s, err := Open(t.Context(), testOptions(t, disk))
	var foreign *ForeignDataError
	if !errors.As(err, &foreign) || !strings.Contains(err.Error(), "ext4") {
		t.Fatalf("%+v, %v", s, err)
	}
	if output, err := exec.Command(e2fsck, "-n", "-f", disk).CombinedOutput(); err != nil {
		t.Errorf("the file system was changed: %v: %s", err, output)
	}
}

func TestPartitionIsNoDisk(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	o.OS = &hosttest.OS{Files: fstest.MapFS{"sys/class/block/" + filepath.Base(o.Disk) + "/partition": {Data: []byte("1\n")}}}
	if s, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is a partition") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestBusyStorageSaysWhoHoldsIt(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	s := open(t, o)
	held, err := os.Create(filepath.Join(o.VarDir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.Close(ctx)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "(pid "+strconv.Itoa(os.Getpid())+")") {
		t.Errorf("error: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	closeStorage(t, s)
}

func TestNoSuchDisk(t *testing.T) {
	o := testOptions(t, filepath.Join(t.TempDir(), "vdz"))
	o.OS = &hosttest.OS{Files: fstest.MapFS{"sys/block/vda/size": {Data: []byte("8388608\n")}}}
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	_, err := Open(ctx, o)
	if err == nil || !strings.Contains(err.Error(), "the disks here: /dev/vda (4096 MiB): correct machine.install.disk") {
		t.Errorf("error: %v", err)
	}
	o.Disk = t.TempDir()
	if _, err := Open(t.Context(), o); err == nil {
		t.Error("a directory was taken for a disk")
	}
	file := emptyDisk(t, mebibyte)
	o.Disk = file.Name()
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is not a disk") {
		t.Errorf("a file: %v", err)
	}
}

func TestCheckFilesystem(t *testing.T) {
	run := func(script string) *hosttest.OS {
		return &hosttest.OS{Programs: map[string]func([]string) (string, error){
			e2fsck: func([]string) (string, error) {
				output, err := exec.Command("/bin/sh", "-c", script).Output()
				return string(output), err
			},
		}}
	}
	for script, want := range map[string]string{"exit 0": "", "echo fixed; exit 1": "fixed\n", "echo fixed; exit 2": "fixed\n"} {
		if repaired, err := checkFilesystem(t.Context(), run(script), "/dev/vda2", osdisk.Ephemeral.Name); err != nil || repaired != want {
			t.Errorf("%s: %q, %v", script, repaired, err)
		}
	}
	for script, erase := range map[string]bool{"exit 4": true, "exit 12": true, "exit 8": false, "exit 32": false, "kill -9 $$": false} {
		_, err := checkFilesystem(t.Context(), run(script), "/dev/vda2", osdisk.Ephemeral.Name)
		if err == nil || strings.Contains(err.Error(), "erase") != erase {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// grow makes a loop device's file larger, as when a virtual disk is.
func grow(t *testing.T, disk string, size int64) {
	t.Helper()
	device, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	file, err := os.ReadFile("/sys/block/" + filepath.Base(disk) + "/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(strings.TrimSpace(string(file)), size); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		t.Fatal(err)
	}
}

func TestALargerDiskIsMadeUseOf(t *testing.T) {
	o := testOptions(t, loopDisk(t, testSize))
	capacity := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(o.VarDir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * uint64(st.Bsize)
	}
	s := open(t, o)
	kept, before := filepath.Join(o.VarDir, "kept"), capacity()
	if err := os.WriteFile(kept, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	closeStorage(t, s)
	const more = 3 << 30
	grow(t, o.Disk, testSize+more)
	for range 2 { // the second time nothing is left to do
		s = open(t, o)
		if after := capacity(); after < before+more*9/10 && mayResize(t) {
			t.Errorf("%d bytes on a disk that was given %d more, were %d", after, more, before)
		}
		if data, err := os.ReadFile(kept); err != nil || string(data) != "data" || s.Formatted {
			t.Errorf("the data is gone: %q, %v", data, err)
		}
		closeStorage(t, s)
	}
}

// mayResize tells whether this process may change the size of a mounted ext4; in
// a container root may not.
func mayResize(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		t.Fatal(err)
	}
	return have[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
