package containers

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/host"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// testOutOfSpace fills a disk of its own in every way an archive can: containerd
// keeps no part of the image and works on.
func testOutOfSpace(t *testing.T, program string) {
	base := t.TempDir()
	if err := unix.Mount("keelson-test", base, "tmpfs", 0, "size=128m"); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(base, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := startContainerd(t, program, base, nil)
	large := dockerArchive(t, "example.com/large:1", testImage(t, "large", "amd64", noise("large", 100<<20)))
	bomb := dockerArchive(t, "example.com/bomb:1", testImage(t, "bomb", "amd64", bytes.Repeat([]byte("bomb"), 200<<18)))
	before := blobs(t, s)
	free := func() uint64 {
		disk, err := host.ReadDisk(base)
		if err != nil {
			t.Fatal(err)
		}
		return disk.Available >> 20
	}
	whole := free()
	intact := func(name string, err error) {
		t.Helper()
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "no space left for the image: ") || !strings.Contains(err.Error(), "osctl image rm") {
			t.Errorf("%s: %v, want ResourceExhausted and what to do", name, err)
		}
		if got := list(t, s); len(got) != 1 || got[0] != PauseImage {
			t.Errorf("%s: images %q are there now", name, got)
		}
		// containerd hears of the end and lets go of what it was writing.
		late := time.After(30 * time.Second)
		for blobs(t, s) != before || free()+2 < whole {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-late:
			}
			t.Fatalf("%s: %d files of content and %d MiB free, before %d and %d", name, blobs(t, s), free(), before, whole)
		}
	}
	for name, content := range map[string][]byte{"does not fit": large, "unpacks to 200 MiB": bomb} {
		_, err := send(t, s, content, io.EOF)
		t.Logf("%s: %v", name, err)
		intact(name, err)
		// What is full up to the last byte, the kernel says.
		_, err = s.importArchive(t.Context(), bytes.NewReader(content), importOptions{})
		t.Logf("%s, nothing kept: %v", name, err)
		intact(name+", nothing kept", err)
	}
	// More than the OS keeps, and less than kubelet wants beside it.
	ballast := filepath.Join(base, "ballast")
	if err := os.WriteFile(ballast, make([]byte, (whole-70)<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := send(t, s, archive(t, "example.com/small:1"), io.EOF)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("to a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := send(t, s, archive(t, "example.com/small:1"), io.EOF); err != nil {
		t.Errorf("with space again: %v", err)
	}
}
