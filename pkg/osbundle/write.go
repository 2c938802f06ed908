package osbundle

import (
	"archive/tar"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Write makes a bundle of the files with the parts, by the parts' names. The
// manifest's parts are filled in. Everything in it bears the time.
func Write(to io.Writer, manifest Manifest, files map[string]string, key ed25519.PrivateKey, when time.Time) error {
	manifest.Parts = nil
	for _, name := range partNames {
		part, err := describeFile(name, files[name])
		if err != nil {
			return err
		}
		manifest.Parts = append(manifest.Parts, part)
	}
	text, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return err
	}
	if _, err := decodeManifest(text); err != nil {
		return err
	}
	archive := tar.NewWriter(to)
	for _, member := range []struct {
		name    string
		content []byte
	}{{manifestName, text}, {signatureName, sign(key, text)}} {
		if err := archive.WriteHeader(header(member.name, int64(len(member.content)), when)); err != nil {
			return err
		}
		if _, err := archive.Write(member.content); err != nil {
			return err
		}
	}
	for _, part := range manifest.Parts {
		if err := archive.WriteHeader(header(part.Name, part.Size, when)); err != nil {
			return err
		}
		if err := copyFile(archive, files[part.Name]); err != nil {
			return err
		}
	}
	return archive.Close()
}

func header(name string, size int64, when time.Time) *tar.Header {
	return &tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: when, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
}

func describeFile(name, path string) (Part, error) {
	f, err := os.Open(path)
	if err != nil {
		return Part{}, fmt.Errorf("open the bundle's %s: %w", name, err)
	}
	defer f.Close()
	return describe(name, f)
}

func copyFile(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}
