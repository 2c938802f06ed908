package containers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// noise is bytes that do not compress, others for each seed: a layer that is
// unpacked already is not unpacked again, and so not checked.
func noise(seed string, size int) []byte {
	content := make([]byte, size)
	source := rand.New(rand.NewPCG(uint64(crc32.ChecksumIEEE([]byte(seed))), 2))
	for i := range content {
		content[i] = byte(source.Uint32())
	}
	return content
}

// testImage makes an image of one layer, which holds one program.
func testImage(t *testing.T, reference, architecture string, program []byte) v1.Image {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := w.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(program))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(program)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, made)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{Entrypoint: []string{"/program"}, Labels: map[string]string{"for": reference}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// archive makes a Docker archive of one small image.
func archive(t *testing.T, reference string) []byte {
	t.Helper()
	return dockerArchive(t, reference, testImage(t, reference, "amd64", noise(reference, 300_000)))
}

func dockerArchive(t *testing.T, reference string, img v1.Image) []byte {
	t.Helper()
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, img, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// ociArchive packs an OCI layout, as skopeo, buildah and docker buildx make it.
func ociArchive(t *testing.T, reference string, img v1.Image) []byte {
	t.Helper()
	dir := t.TempDir()
	made, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.AppendImage(img, namedAs(reference)); err != nil {
		t.Fatal(err)
	}
	return packed(t, dir)
}

// ociIndex packs an image of several architectures.
func ociIndex(t *testing.T, reference string, architectures ...string) []byte {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, architecture := range architectures {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        testImage(t, reference, architecture, noise(reference+architecture, 300_000)),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	dir := t.TempDir()
	made, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = made.AppendIndex(index, namedAs(reference))
	}
	if err != nil {
		t.Fatal(err)
	}
	return packed(t, dir)
}

// namedAs gives an entry of a layout its name, if it has one.
func namedAs(reference string) layout.Option {
	annotations := map[string]string{}
	if reference != "" {
		annotations["org.opencontainers.image.ref.name"] = reference
	}
	return layout.WithAnnotations(annotations)
}

func packed(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zip(t *testing.T, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(content)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t *testing.T, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

// without copies an archive but the entries whose name ends so.
func without(t *testing.T, content []byte, suffix string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(header.Name, suffix) {
			continue
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
