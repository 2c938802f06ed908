package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// writeArchive writes images as "docker save" does: each image's configuration
// and each layer once, and a list of the images last. (The module that defines
// the format writes several images in an order that changes from run to run.)
func (b *build) writeArchive(file string, images []container) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	archive := tar.NewWriter(f)
	written := map[string]bool{}
	add := func(name string, content []byte) error {
		if written[name] {
			return nil
		}
		written[name] = true
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: b.epoch, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err := archive.Write(content)
		return err
	}

	var manifest tarball.Manifest
	for _, image := range images {
		config, err := json.Marshal(b.configFile(image))
		if err != nil {
			return err
		}
		entry := tarball.Descriptor{Config: digestOfBytes(config) + ".json", RepoTags: []string{image.name}}
		if err := add(entry.Config, config); err != nil {
			return fmt.Errorf("write the image %s: %w", image.name, err)
		}
		for _, l := range image.layers {
			name := digestOfBytes(l.content) + ".tar"
			if err := add(name, l.content); err != nil {
				return fmt.Errorf("write the image %s: %w", image.name, err)
			}
			entry.Layers = append(entry.Layers, name)
		}
		manifest = append(manifest, entry)
	}
	list, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := add("manifest.json", list); err != nil {
		return err
	}
	return archive.Close()
}

// configFile is an image's configuration as archives and registries have it.
func (b *build) configFile(image container) v1.ConfigFile {
	config := v1.ConfigFile{
		OS: "linux", Architecture: b.arch.name,
		Created: v1.Time{Time: b.epoch},
		Config:  image.config,
		RootFS:  v1.RootFS{Type: "layers"},
	}
	for _, l := range image.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		config.History = append(config.History, v1.History{Created: v1.Time{Time: b.epoch}, CreatedBy: l.what})
	}
	return config
}

func digestOfBytes(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
