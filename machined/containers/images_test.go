package containers

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/keelson-os/keelson/pkg/api/image"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func record(name, digest string, updated int64) *imagesapi.Image {
	return &imagesapi.Image{
		Name: name, Target: &types.Descriptor{Digest: digest}, UpdatedAt: &timestamppb.Timestamp{Seconds: updated},
	}
}

func TestRemovals(t *testing.T) {
	records := []*imagesapi.Image{
		record("a:1", "x", 0), record("a:latest", "x", 0), record("sha256:ax", "x", 0),
		record("b:1", "y", 0), record("sha256:by", "y", 0),
	}
	for name, want := range map[string][]string{
		"a:1": {"a:1"}, // a:latest still needs the content
		"b:1": {"b:1", "sha256:by"},
	} {
		if got := removals(records, find(records, name)); !slices.Equal(got, want) {
			t.Errorf("removing %s deletes %q, want %q", name, got, want)
		}
	}
}

func TestChanged(t *testing.T) {
	before := []*imagesapi.Image{record("same:1", "x", 1), record("again:1", "y", 1)}
	after := []*imagesapi.Image{record("same:1", "x", 1), record("again:1", "y", 2), record("new:1", "z", 2)}
	if got := names(changed(before, after)); !slices.Equal(got, []string{"again:1", "new:1"}) {
		t.Errorf("changed %q, want again:1 and new:1", got)
	}
}

func TestParseChildren(t *testing.T) {
	for text, want := range map[string]int{
		`{"manifests":[{"digest":"sha256:a"},{"digest":"sha256:b"}]}`:       2,
		`{"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:d"}]}`: 2,
		`{}`: 0,
	} {
		children, err := parseChildren([]byte(text))
		if err != nil || len(children) != want {
			t.Errorf("%s: %d children (%v), want %d", text, len(children), err, want)
		}
	}
	if _, err := parseChildren([]byte("[")); err == nil {
		t.Error("read children from broken JSON")
	}
}

// The texts are containerd 2.4's, as TestWithContainerd shows them.
func TestExplain(t *testing.T) {
	for text, want := range map[string]struct {
		code codes.Code
		says string
	}{
		"unrecognized image format":       {codes.InvalidArgument, "no OCI or Docker image archive"},
		"archive/tar: invalid tar header": {codes.InvalidArgument, "no tar archive"},
		`failed to ingest "x": short read: expected 9 bytes but got 3: unexpected EOF`: {codes.InvalidArgument, "truncated"},
		`failed to resolve layers: layer "x" not found`:                                {codes.InvalidArgument, "lacks a part"},
		`wrong diff id calculated on extraction "sha256:x"`:                            {codes.InvalidArgument, "damaged"},
		"write /var/lib/containerd/x: no space left on device":                         {codes.ResourceExhausted, "MiB of"},
		"the moon is in the wrong phase":                                               {codes.Internal, "the moon"},
	} {
		err := explain(status.Error(codes.Unknown, text), t.TempDir())
		if status.Code(err) != want.code || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v, want %s with %q", text, err, want.code, want.says)
		}
	}
	if err := explain(status.Error(codes.Unavailable, "connection refused"), ""); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "osctl services") {
		t.Errorf("containerd away: %v", err)
	}
	if err := explain(status.Error(codes.Canceled, "gone"), ""); status.Code(err) != codes.Canceled {
		t.Errorf("client away: %v", err)
	}
}

func TestChunks(t *testing.T) {
	queue := [][]byte{[]byte("abc"), nil, []byte("defgh")}
	c := &chunks{receive: func() (*image.ImportRequest, error) {
		if len(queue) == 0 {
			return nil, io.EOF
		}
		next := queue[0]
		queue = queue[1:]
		return &image.ImportRequest{Chunk: next}, nil
	}}
	got, err := io.ReadAll(io.MultiReader(io.LimitReader(c, 2), c))
	if err != nil || string(got) != "abcdefgh" {
		t.Errorf("read %q, %v", got, err)
	}
	c.receive = func() (*image.ImportRequest, error) {
		return &image.ImportRequest{Chunk: make([]byte, maxChunk+1)}, nil
	}
	if _, err := c.Read(make([]byte, 1)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a chunk above the limit: %v, want InvalidArgument", err)
	}
	broken := errors.New("broken")
	c.receive = func() (*image.ImportRequest, error) { return nil, broken }
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, broken) {
		t.Errorf("a stream that breaks: %v", err)
	}
}
