package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/pkg/api/image"
)

// fakeImages keeps what it is sent; archives must begin with "archive".
type fakeImages struct {
	image.UnimplementedImageServiceServer
	received bytes.Buffer
	largest  int
	pin      bool
	pinned   []string
	// cluster is whom an archive is spread over.
	cluster *fakeNodes
	uploads int
}

func (node *fakeImages) List(context.Context, *image.ListRequest) (*image.ListResponse, error) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	return &image.ListResponse{Images: []*image.Image{
		{Name: "keelson.local/pause:v1.37.1", Digest: digest, Size: 700 << 10, Pinned: true, System: true},
		{Name: "keelson.local/sample-web:1", Digest: digest, Size: 3 << 20, Created: timestamppb.New(testNow.Add(-72 * time.Hour)), Pinned: true},
		{Name: "shop.local/api:2", Digest: digest, Size: 30 << 20, Created: timestamppb.New(testNow.Add(-time.Hour))},
	}}, nil
}

func (node *fakeImages) Import(stream image.ImageService_ImportServer) error {
	images, err := node.take(func() (*image.SpreadRequest, error) {
		request, err := stream.Recv()
		return &image.SpreadRequest{Chunk: request.GetChunk(), Pin: request.GetPin()}, err
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&image.ImportResponse{Images: images})
}

// Spread takes the archive once, for every node it can reach.
func (node *fakeImages) Spread(stream image.ImageService_SpreadServer) error {
	node.uploads++
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	for _, name := range first.GetNodes() {
		if name == "worker-2" {
			state := status.Convert(node.cluster.dead)
			_ = stream.Send(&image.SpreadResponse{Node: name, Failure: &image.SpreadFailure{Code: uint32(state.Code()), Message: state.Message()}})
		}
	}
	images, err := node.take(stream.Recv)
	node.pin = first.GetPin()
	failure := (*image.SpreadFailure)(nil)
	if err != nil {
		failure = &image.SpreadFailure{Code: uint32(status.Code(err)), Message: status.Convert(err).Message()}
	}
	for _, name := range first.GetNodes() {
		if name != "worker-2" && name != "lost" {
			_ = stream.Send(&image.SpreadResponse{Node: name, Images: images, Failure: failure})
		}
	}
	return nil
}

func (node *fakeImages) take(receive func() (*image.SpreadRequest, error)) ([]*image.Image, error) {
	node.received.Reset()
	for first := true; ; first = false {
		request, err := receive()
		if err == io.EOF {
			return []*image.Image{{Name: "web:1", Digest: "sha256:abc", Size: 2048}}, nil
		}
		if err != nil {
			return nil, err
		}
		if first {
			node.pin = request.GetPin()
		}
		node.largest = max(node.largest, len(request.GetChunk()))
		node.received.Write(request.GetChunk())
		if !strings.HasPrefix(node.received.String(), "archive") {
			return nil, status.Error(codes.InvalidArgument, "no OCI or Docker archive")
		}
	}
}

func (node *fakeImages) Pin(_ context.Context, request *image.PinRequest) (*image.PinResponse, error) {
	if request.GetName() != "web:1" {
		return nil, status.Error(codes.NotFound, "no such image; there are: web:1")
	}
	node.pinned = append(node.pinned, fmt.Sprint(request.GetName(), " ", request.GetPinned()))
	return &image.PinResponse{}, nil
}

func (node *fakeImages) Remove(_ context.Context, request *image.RemoveRequest) (*image.RemoveResponse, error) {
	if request.GetName() != "web:1" {
		return nil, status.Error(codes.NotFound, "no such image; there are: web:1")
	}
	return &image.RemoveResponse{}, nil
}

func newImageHarness(t *testing.T) (*harness, *fakeImages) {
	node := &fakeImages{}
	return newHarness(t, func(server *grpc.Server) { image.RegisterImageServiceServer(server, node) }), node
}

func TestImageList(t *testing.T) {
	harness, _ := newImageHarness(t)
	harness.golden(t, "image-list.txt", "image", "list")
	harness.golden(t, "image-list.name", "image", "list", "-o", "name")
}

func TestImageImportSendsTheWholeFileInChunks(t *testing.T) {
	harness, node := newImageHarness(t)
	content := append([]byte("archive"), make([]byte, 3*chunkSize+5)...)
	path := filepath.Join(t.TempDir(), "web.tar")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := harness.run(t, "image", "import", path); code != exitOK || !strings.HasPrefix(harness.out.String(), "web:1 imported") {
		t.Errorf("exit code %d: %s%s", code, harness.out, harness.err)
	}
	if !bytes.Equal(node.received.Bytes(), content) || node.largest > 1<<20 {
		t.Errorf("the node got %d bytes of %d, in messages of up to %d", node.received.Len(), len(content), node.largest)
	}
	if code := harness.run(t, "image", "import", "-o", "json", path); code != exitOK || !strings.HasPrefix(harness.out.String(), `{"images":[{"name":"web:1"`) {
		t.Errorf("as JSON: exit code %d: %s%s", code, harness.out, harness.err)
	}
	harness.stdin.Reset("archive from a pipe")
	if code := harness.run(t, "image", "import", "-"); code != exitOK || node.received.String() != "archive from a pipe" {
		t.Errorf("from standard input: exit code %d, %q", code, node.received.String())
	}
}

func TestImageImportNamesTheFileThatFails(t *testing.T) {
	harness, _ := newImageHarness(t)
	path := filepath.Join(t.TempDir(), "text.tar")
	if err := os.WriteFile(path, bytes.Repeat([]byte("no archive "), chunkSize), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.fails(t, exitError, []string{"import " + path + ": no OCI or Docker archive"}, "image", "import", path)
	harness.fails(t, exitError, []string{"none.tar"}, "image", "import", "none.tar")
	harness.fails(t, exitError, []string{"a directory"}, "image", "import", t.TempDir())
}

func TestImageRemove(t *testing.T) {
	harness, _ := newImageHarness(t)
	if code := harness.run(t, "image", "rm", "web:1"); code != exitOK || harness.out.String() != "web:1 removed\n" {
		t.Errorf("exit code %d: %s", code, harness.out)
	}
	harness.fails(t, exitError, []string{"remove x:1: no such image; there are: web:1"}, "image", "rm", "x:1")
}

func TestImagePin(t *testing.T) {
	harness, node := newImageHarness(t)
	for verb, want := range map[string]string{"pin": "web:1 true", "unpin": "web:1 false"} {
		node.pinned = nil
		if code := harness.run(t, "image", verb, "web:1"); code != exitOK || harness.out.String() != "web:1 "+verb+"ned\n" || fmt.Sprint(node.pinned) != "["+want+"]" {
			t.Errorf("exit code %d: %s, the node did %q", code, harness.out, node.pinned)
		}
		harness.fails(t, exitError, []string{verb + " x:1: no such image; there are: web:1"}, "image", verb, "x:1")
	}
}

func TestAnArchiveIsSentOnceForAllNodes(t *testing.T) {
	harness, nodes := newNodesHarness(t)
	content := append([]byte("archive"), make([]byte, 3*chunkSize+5)...)
	path := filepath.Join(t.TempDir(), "web.tar")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	// The dead node costs a line, also when there is more to import.
	dead := "node worker-2: import " + path + ": does not answer at 10.77.0.13:50000: dial tcp 10.77.0.13:50000: i/o timeout\n"
	code := harness.run(t, "image", "import", "--pin", "-N", "all", path, path)
	imported := []string{"cp-1:     web:1 imported (sha256:abc, 2.0 KiB)", "worker-1: web:1 imported (sha256:abc, 2.0 KiB)"}
	if got := lines(harness.out.String()); code != exitError || harness.err.String() != dead || !slices.Equal(got, slices.Sorted(slices.Values(append(imported, imported...)))) {
		t.Errorf("exit code %d: %q, %s", code, got, harness.err)
	}
	if fake := nodes.cp1.images; fake.uploads != 2 || !fake.pin || !bytes.Equal(fake.received.Bytes(), content) || fake.largest > 1<<20 {
		t.Errorf("%d uploads, pin %t, %d bytes of %d, %d at once", fake.uploads, fake.pin, fake.received.Len(), len(content), fake.largest)
	}
	harness.stdin.Reset("archive from a pipe")
	if code := harness.run(t, "image", "import", "-", "-N", "cp-1,worker-1", "-o", "json"); code != exitOK || len(lines(harness.out.String())) != 2 ||
		!strings.HasPrefix(harness.out.String(), `{"node":"cp-1","images":[{"name":"web:1"`) {
		t.Errorf("from standard input: exit code %d: %s%s", code, harness.out, harness.err)
	}
	harness.stdin.Reset("text")
	harness.fails(t, exitError, []string{"node cp-1: import -: no OCI or Docker archive", "node worker-1: import -: no OCI or Docker archive"}, "image", "import", "-", "-N", "cp-1,worker-1")
	harness.fails(t, exitError, []string{"node lost: import " + path + ": the endpoint did not say"}, "image", "import", path, "-N", "cp-1,lost")
	harness.fails(t, exitError, []string{"import none.tar: open none.tar"}, "image", "import", "none.tar", "-N", "all")
}

func TestNodesThatAreDialledGetUploadsOfTheirOwn(t *testing.T) {
	var nodes []*askedNode
	for i := range 2*maxShared + 1 {
		nodes = append(nodes, &askedNode{name: fmt.Sprint(i)})
	}
	nodes[3].direct, nodes[7].direct = true, true
	var sizes []int
	for _, some := range ways(nodes) {
		sizes = append(sizes, len(some))
	}
	if !slices.Equal(sizes, []int{maxShared, maxShared - 1, 1, 1}) {
		t.Errorf("uploads for %d nodes", sizes)
	}
	harness, _ := newNodesHarness(t)
	harness.fails(t, exitUsage, []string{"standard input can be read once only"}, "image", "import", "-", "-N", "10.0.0.9:50000,cp-1")
}
