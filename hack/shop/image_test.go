package shop

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// unpack unpacks an image of the archive to a folder and returns its
// configuration.
func unpack(t *testing.T, image, root string) v1.Config {
	t.Helper()
	tag, err := name.NewTag(image, name.StrictValidation)
	if err != nil {
		t.Fatal(err)
	}
	found, err := tarball.ImageFromPath(archive(), &tag)
	if err != nil {
		t.Fatalf("the manifests name %s: %v", image, err)
	}
	config, err := found.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	files := mutate.Extract(found)
	defer files.Close()
	for r := tar.NewReader(files); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return config.Config
		}
		if err == nil {
			err = unpackFile(root, header, r)
		}
		if err != nil {
			t.Fatalf("unpack %s: %v", image, err)
		}
	}
}

func unpackFile(root string, header *tar.Header, content io.Reader) error {
	path := filepath.Join(root, header.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := header.FileInfo().Mode()
	switch header.Typeflag {
	case tar.TypeDir:
		return errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, mode))
	case tar.TypeSymlink:
		return os.Symlink(header.Linkname, path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
