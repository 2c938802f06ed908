package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// testImages are two images that share a layer.
func someImages(t *testing.T, b *build) []container {
	t.Helper()
	var layers []layer
	for _, file := range []string{"common", "one", "two"} {
		files := newTree()
		files.text("etc/"+file, file)
		l, err := b.compressedLayer(file, files)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	return []container{
		{"keelson.local/test:1", []layer{layers[0], layers[1]}, v1.Config{Entrypoint: []string{"/one"}}},
		{"keelson.local/test:2", []layer{layers[0], layers[2]}, v1.Config{Entrypoint: []string{"/two"}, User: "1"}},
	}
}

func TestAnArchiveHoldsImagesThatShareLayers(t *testing.T) {
	b := &build{arch: amd64, epoch: time.Unix(99, 0).UTC()}
	file := filepath.Join(t.TempDir(), "test.tar")
	images := someImages(t, b)
	if err := b.writeArchive(file, images); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"one", "two"} {
		tag, err := name.NewTag(images[i].name)
		if err != nil {
			t.Fatal(err)
		}
		image, err := tarball.ImageFromPath(file, &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(config.Config.Entrypoint, []string{"/" + want}) || config.OS != "linux" || config.Architecture != "amd64" {
			t.Errorf("%s has the config %+v", images[i].name, config)
		}
		layers, err := image.Layers()
		if err != nil || len(layers) != 2 {
			t.Fatalf("%s has %d layers, %v", images[i].name, len(layers), err)
		}
		for j, file := range []string{"etc/common", "etc/" + want} {
			content, err := layers[j].Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			files, err := io.ReadAll(content)
			if err != nil || !bytes.Contains(files, []byte(file)) {
				t.Errorf("%s lacks %s: %v", images[i].name, file, err)
			}
			if sum := digestOfBytes(files); sum != config.RootFS.DiffIDs[j].Hex {
				t.Errorf("%s: layer %d unpacks to %s, its config says %s", images[i].name, j, sum, config.RootFS.DiffIDs[j])
			}
		}
	}
	if list, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(file) }); err != nil || len(list) != 2 || list[0].Layers[0] != list[1].Layers[0] {
		t.Errorf("the list of images: %+v, %v", list, err)
	}
}

func TestArchivesOfTheSameImagesAreIdentical(t *testing.T) {
	b := &build{arch: amd64, epoch: time.Unix(99, 0).UTC()}
	var all [][]byte
	for _, file := range []string{filepath.Join(t.TempDir(), "1.tar"), filepath.Join(t.TempDir(), "2.tar")} {
		if err := b.writeArchive(file, someImages(t, b)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("two archives of the same images differ")
	}
}
