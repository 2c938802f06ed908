package main

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// sampleImage is the name of the sample workload's image.
const sampleImage = "keelson.local/sample-web:1"

func (b *build) makeSample(context.Context) error {
	p := programNamed("sample")
	sum, err := b.digest(b.program(p))
	if err != nil {
		return err
	}
	return b.once("sample workload's image", []string{b.path("sample-web.tar")}, []string{sum}, func(partial []string) error {
		return b.writeImage(partial[0], sampleImage, p, "/sample-web", "65534:65534")
	})
}

// writeImage writes an archive (as "docker save" does) of a container image
// that holds one program and runs it as user.
func (b *build) writeImage(file, reference string, p program, entrypoint, user string) error {
	t := newTree()
	t.file(strings.TrimPrefix(entrypoint, "/"), b.program(p), 0o755)
	// What a container runtime mounts, and what some programs expect.
	for _, dir := range []string{"dev", "etc", "proc", "sys"} {
		t.dir(dir, 0o755)
	}
	layer, err := b.layer(t, path.Base(entrypoint))
	if err != nil {
		return err
	}
	image, err := b.containerImage(v1.Config{Entrypoint: []string{entrypoint}, User: user}, layer)
	if err != nil {
		return fmt.Errorf("make the image %s: %w", reference, err)
	}
	return writeArchive(file, map[string]v1.Image{reference: image})
}

// layer makes a layer of a container image from a tree. It is not compressed:
// the root image compresses it better together with the rest, and nothing has
// to unpack it on a node's first boot.
func (b *build) layer(t *tree, madeBy string) (mutate.Addendum, error) {
	var content bytes.Buffer
	if err := t.writeTar(&content, b.epoch); err != nil {
		return mutate.Addendum{}, err
	}
	return mutate.Addendum{
		Layer:   static.NewLayer(content.Bytes(), types.DockerUncompressedLayer),
		History: v1.History{Created: v1.Time{Time: b.epoch}, CreatedBy: madeBy},
	}, nil
}

// containerImage makes a container image of layers, the lowest first.
func (b *build) containerImage(run v1.Config, layers ...mutate.Addendum) (v1.Image, error) {
	image, err := mutate.Append(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Created = v1.Time{Time: b.epoch}
	config.Config = run
	return mutate.ConfigFile(image, config)
}

// writeArchive writes images by their names into one archive, layers that they
// share once.
func writeArchive(file string, images map[string]v1.Image) error {
	tagged := map[name.Tag]v1.Image{}
	for reference, image := range images {
		tag, err := name.NewTag(reference, name.StrictValidation)
		if err != nil {
			return err
		}
		tagged[tag] = image
	}
	if err := tarball.MultiWriteToFile(file, tagged); err != nil {
		return fmt.Errorf("write the images' archive %s: %w", file, err)
	}
	return nil
}
