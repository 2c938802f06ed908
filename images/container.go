package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// sampleImages are the images of the sample workload: one program whose
// environment says which version it is, for rolling updates. The last one never
// gets ready, for updates that are undone.
var sampleImages = []struct {
	name string
	env  []string
}{
	{"keelson.local/sample-web:1", []string{"SAMPLE_VERSION=1"}},
	{"keelson.local/sample-web:2", []string{"SAMPLE_VERSION=2"}},
	{"keelson.local/sample-web:broken", []string{"SAMPLE_VERSION=broken", "SAMPLE_BROKEN=true"}},
}

func (b *build) makeSample(context.Context) error {
	p := programNamed("sample")
	sum, err := b.digest(b.program(p))
	if err != nil {
		return err
	}
	return b.once("sample workload's images", []string{b.path("sample-web.tar")}, []string{sum}, func(partial []string) error {
		files, err := b.programLayer(p, "/sample-web")
		if err != nil {
			return err
		}
		var images []container
		for _, each := range sampleImages {
			images = append(images, container{
				name:   each.name,
				layers: []layer{files},
				config: v1.Config{Entrypoint: []string{"/sample-web"}, User: "65534:65534", Env: each.env},
			})
		}
		return b.writeArchive(partial[0], images)
	})
}

// writeImage writes an archive of a container image that holds one program and
// runs it as user.
func (b *build) writeImage(file, name string, p program, entrypoint, user string) error {
	files, err := b.programLayer(p, entrypoint)
	if err != nil {
		return err
	}
	return b.writeArchive(file, []container{{
		name:   name,
		layers: []layer{files},
		config: v1.Config{Entrypoint: []string{entrypoint}, User: user},
	}})
}

// programLayer is the layer of an image that holds nothing but a program. It is
// not compressed: the root image compresses it better together with the rest,
// and nothing has to unpack it on a node's first boot.
func (b *build) programLayer(p program, entrypoint string) (layer, error) {
	t := newTree()
	t.file(strings.TrimPrefix(entrypoint, "/"), b.program(p), 0o755)
	addMountPoints(t)
	return b.plainLayer(path.Base(entrypoint), t)
}

// plainLayer is a layer of files, not compressed.
func (b *build) plainLayer(what string, t *tree) (layer, error) {
	var content bytes.Buffer
	if err := t.writeTar(&content, b.epoch); err != nil {
		return layer{}, err
	}
	sum := sha256.New()
	sum.Write(content.Bytes())
	return layer{what: what, content: content.Bytes(), diffID: hashOf(sum)}, nil
}

// addMountPoints adds what a container runtime mounts something on, and what
// some programs expect.
func addMountPoints(t *tree) {
	for _, dir := range []string{"dev", "etc", "proc", "sys"} {
		t.dir(dir, 0o755)
	}
}

// container is one container image.
type container struct {
	name   string // with its tag
	layers []layer
	config v1.Config
}

// layer is a part of container images; images may share it.
type layer struct {
	what    string // for the image's history
	content []byte // a tar archive, or one compressed by zstd
	diffID  v1.Hash
}

// compressedLayer is a layer of files, compressed.
func (b *build) compressedLayer(what string, t *tree) (layer, error) {
	var content bytes.Buffer
	// One at a time: what several encoders write depends on nothing else either,
	// but nobody promises so.
	compressed, err := zstd.NewWriter(&content, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return layer{}, err
	}
	sum := sha256.New()
	if err := t.writeTar(io.MultiWriter(compressed, sum), b.epoch); err != nil {
		return layer{}, fmt.Errorf("pack %s: %w", what, err)
	}
	if err := compressed.Close(); err != nil {
		return layer{}, err
	}
	return layer{what: what, content: content.Bytes(), diffID: hashOf(sum)}, nil
}

func hashOf(sum hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
}
