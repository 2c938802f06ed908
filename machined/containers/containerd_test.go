package containers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/image"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestWithContainerd runs against a real containerd, as root. KEELSON_ARTIFACTS
// names the folder in which `make image` left the programs it built.
func TestWithContainerd(t *testing.T) {
	artifacts := os.Getenv("KEELSON_ARTIFACTS")
	if artifacts == "" {
		t.Skip("needs KEELSON_ARTIFACTS, the folder that make image built into; make test sets it")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: containerd mounts what it unpacks")
	}
	program := filepath.Join(artifacts, "build/programs/containerd")
	t.Run("out of space", func(t *testing.T) { testOutOfSpace(t, program) })
	t.Run("pulls", func(t *testing.T) { testPulls(t, program) })
	t.Run("pulls without a network", func(t *testing.T) { testPullsWithoutNetwork(t, program) })
	s := startContainerd(t, program, t.TempDir(), nil)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *Service)
	}{
		{"pause", testPause},
		{"bad archives", testBadArchives},
		{"good archives", testGoodArchives},
		{"pinned images", testPinnedImages},
		{"images of the OS image", testEmbeddedImages},
		{"a client that goes away", testClientGoesAway},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, s) })
	}
}

// startContainerd runs a containerd that keeps everything below base, until the
// test ends. change may alter the node's options.
func startContainerd(t *testing.T, program, base string, change func(*Options)) *Service {
	t.Helper()
	return startContainerdIn(t, program, base, 0, change)
}

// startContainerdIn starts it in namespaces of its own.
func startContainerdIn(t *testing.T, program, base string, cloneflags uintptr, change func(*Options)) *Service {
	t.Helper()
	pause := filepath.Join(base, "pause.tar")
	if err := os.WriteFile(pause, archive(t, PauseImage), 0o600); err != nil {
		t.Fatal(err)
	}
	options := Options{
		CNIUser:      "flannel",
		LookupUser:   func(string) (supervise.User, error) { return supervise.User{}, nil },
		ConfigDir:    filepath.Join(base, "config"),
		CNIDir:       filepath.Join(base, "cni"),
		Socket:       filepath.Join(base, "c.sock"),
		DataDir:      filepath.Join(base, "data"),
		PauseArchive: pause,
	}
	if change != nil {
		change(&options)
	}
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The node's configuration with other paths.
	file := filepath.Join(s.options.ConfigDir, configFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(dataDir), []byte(s.options.DataDir))
	text = bytes.ReplaceAll(text, []byte("'/run/containerd'"), []byte("'"+filepath.Join(base, "state")+"'"))
	text = fmt.Appendf(text, "\n[plugins.'io.containerd.server.v1.grpc']\n  address = '%s'\n[plugins.'io.containerd.server.v1.ttrpc']\n  address = '%s.ttrpc'\n", s.options.Socket, s.options.Socket)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(containerdLog(s))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	process := exec.Command(program, "--config", file)
	process.Stderr = log
	process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneflags}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Signal(os.Interrupt)
		_ = process.Wait()
		if t.Failed() {
			t.Log(logged(t, s))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for err := s.probe(ctx); err != nil; err = s.probe(ctx) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			_ = process.Process.Kill()
			_ = process.Wait()
			t.Fatalf("containerd is not healthy: %v\n%s", err, logged(t, s))
		}
	}
	return s
}

func containerdLog(s *Service) string { return s.options.Socket + ".log" }

func logged(t *testing.T, s *Service) string {
	t.Helper()
	text, err := os.ReadFile(containerdLog(s))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// upload is the API's stream of one archive.
type upload struct {
	grpc.ServerStream
	ctx      context.Context
	rest     []byte
	end      error
	pin      bool
	response *image.ImportResponse
}

func (u *upload) Context() context.Context { return u.ctx }

func (u *upload) Recv() (*image.ImportRequest, error) {
	if len(u.rest) == 0 {
		return nil, u.end
	}
	n := min(len(u.rest), 64<<10)
	chunk := u.rest[:n]
	u.rest = u.rest[n:]
	request := &image.ImportRequest{Chunk: chunk, Pin: u.pin}
	u.pin = false // counts in the first message
	return request, nil
}

func (u *upload) SendAndClose(response *image.ImportResponse) error {
	u.response = response
	return nil
}

func send(t *testing.T, s *Service, content []byte, end error) (*image.ImportResponse, error) {
	t.Helper()
	return sendAll(t, s, &upload{rest: content, end: end})
}

func sendPinned(t *testing.T, s *Service, content []byte) (*image.ImportResponse, error) {
	t.Helper()
	return sendAll(t, s, &upload{rest: content, end: io.EOF, pin: true})
}

func sendAll(t *testing.T, s *Service, u *upload) (*image.ImportResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	u.ctx = ctx
	err := s.ImageServer().Import(u)
	return u.response, err
}

func list(t *testing.T, s *Service) []string {
	t.Helper()
	response, err := s.ImageServer().List(t.Context(), &image.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, each := range response.GetImages() {
		names = append(names, each.GetName())
		if each.GetSize() < 300_000 {
			t.Errorf("%s: size %d, want that of its layer and more", each.GetName(), each.GetSize())
		}
	}
	return names
}

// blobs counts the files of containerd's content store, finished or not.
func blobs(t *testing.T, s *Service) int {
	t.Helper()
	count := 0
	err := filepath.WalkDir(filepath.Join(s.options.DataDir, "io.containerd.content.v1.content"), func(_ string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			count++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

func testPause(t *testing.T, s *Service) {
	if got := list(t, s); len(got) != 1 || got[0] != PauseImage {
		t.Errorf("images %q, want the pause image", got)
	}
	_, err := s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: PauseImage})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("removing the pause image: %v, want FailedPrecondition", err)
	}
	if _, err := send(t, s, archive(t, PauseImage), io.EOF); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("importing another image under its name: %v, want FailedPrecondition", err)
	}
	response, err := s.ImageServer().List(t.Context(), &image.ListRequest{})
	if err != nil || len(response.GetImages()) != 1 || !response.GetImages()[0].GetPinned() {
		t.Errorf("after that the images are %v (%v), want the pause image, pinned", response.GetImages(), err)
	}
}

func testBadArchives(t *testing.T, s *Service) {
	whole := archive(t, "example.com/bad:1")
	flipped := bytes.Clone(whole)
	flipped[bytes.Index(flipped, []byte{0x1f, 0x8b})+100_000] ^= 1 // within the layer
	ociTar := ociArchive(t, "example.com/bad:4", testImage(t, "example.com/bad:4", "amd64", noise("bad:4", 300_000)))
	before := blobs(t, s)
	for name, content := range map[string][]byte{
		"empty":                 nil,
		"text":                  []byte("this is no archive"),
		"zeros":                 make([]byte, 1<<20),
		"noise":                 bytes.Repeat([]byte("noise"), 10_000),
		"truncated":             whole[:len(whole)/2],
		"truncated, gzip":       zip(t, whole)[:200_000],
		"truncated, zstd":       zstandard(t, whole)[:200_000],
		"a layer's bit flipped": flipped,
		"no layer":              without(t, whole, ".tar.gz"),
		"no manifest":           without(t, whole, "manifest.json"),
		"another tar":           without(t, without(t, whole, "manifest.json"), ".tar.gz"),
		"another architecture":  dockerArchive(t, "example.com/bad:2", testImage(t, "example.com/bad:2", "s390x", noise("bad:2", 300_000))),
		"OCI, truncated":        ociTar[:len(ociTar)/2],
		"OCI, no index":         without(t, ociTar, "index.json"),
		"OCI, architecture":     ociArchive(t, "example.com/bad:3", testImage(t, "example.com/bad:3", "s390x", noise("bad:3", 300_000))),
		"OCI, architectures":    ociIndex(t, "example.com/bad:5", "s390x", "arm64"),
		"OCI, no name":          ociArchive(t, "", testImage(t, "unnamed", "amd64", noise("unnamed", 300_000))),
	} {
		_, err := send(t, s, content, io.EOF)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		} else {
			t.Logf("%s: %v", name, status.Convert(err).Message())
		}
		if got := list(t, s); len(got) != 1 {
			t.Errorf("%s: images %q are there now", name, got)
		}
		if after := blobs(t, s); after != before {
			t.Errorf("%s: %d files of content, before %d", name, after, before)
		}
	}
}

func testGoodArchives(t *testing.T, s *Service) {
	const reference = "example.com/good:1"
	img := testImage(t, reference, "amd64", noise(reference, 300_000))
	for form, plain := range map[string][]byte{"Docker": dockerArchive(t, reference, img), "OCI": ociArchive(t, reference, img)} {
		for name, content := range map[string][]byte{"plain": plain, "gzip": zip(t, plain), "zstd": zstandard(t, plain)} {
			response, err := send(t, s, content, io.EOF)
			if err != nil {
				t.Fatalf("%s, %s: %v", form, name, err)
			}
			if got := response.GetImages(); len(got) != 1 || got[0].GetName() != reference || got[0].GetPinned() || got[0].GetSystem() {
				t.Errorf("%s, %s: imported %v", form, name, got)
			}
		}
	}
	response, err := send(t, s, ociIndex(t, "example.com/good:many", "s390x", "amd64"), io.EOF)
	if err != nil || len(response.GetImages()) != 1 {
		t.Errorf("for several architectures: %v, %v", response, err)
	}
	if _, err := s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: "example.com/good:many"}); err != nil {
		t.Error(err)
	}
	_, err = s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: "example.com/missing:1"})
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "example.com/good:1") {
		t.Errorf("removing what is not there: %v, want NotFound with the names there are", err)
	}
	if _, err := s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: "example.com/good:1"}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s); len(got) != 1 {
		t.Errorf("images %q are left", got)
	}
}

func testClientGoesAway(t *testing.T, s *Service) {
	content := archive(t, "example.com/gone:1")
	_, err := send(t, s, content[:len(content)/2], status.Error(codes.Canceled, "gone"))
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
	if got := list(t, s); len(got) != 1 {
		t.Errorf("images %q are there now", got)
	}
	// The next one is not held up.
	if _, err := send(t, s, archive(t, "example.com/good:2"), io.EOF); err != nil {
		t.Error(err)
	}
}
