package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
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
}

func (node *fakeImages) List(context.Context, *image.ListRequest) (*image.ListResponse, error) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	return &image.ListResponse{Images: []*image.Image{
		{Name: "keelson.local/pause:v1.37.1", Digest: digest, Size: 700 << 10, Pinned: true},
		{Name: "keelson.local/sample-web:1", Digest: digest, Size: 3 << 20, Created: timestamppb.New(testNow.Add(-72 * time.Hour))},
	}}, nil
}

func (node *fakeImages) Import(stream image.ImageService_ImportServer) error {
	node.received.Reset()
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&image.ImportResponse{Images: []*image.Image{{Name: "web:1", Digest: "sha256:abc", Size: 2048}}})
		}
		if err != nil {
			return err
		}
		node.largest = max(node.largest, len(request.GetChunk()))
		node.received.Write(request.GetChunk())
		if !strings.HasPrefix(node.received.String(), "archive") {
			return status.Error(codes.InvalidArgument, "no OCI or Docker archive")
		}
	}
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
