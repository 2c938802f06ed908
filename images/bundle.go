package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/version"
)

// signingKey reads the key that signs bundles; its public half is in the root
// image. Without -sign-key it is one that is made once and kept beside the
// artefacts, so that whoever builds can update what they built.
func (b *build) signingKey() (ed25519.PrivateKey, error) {
	path := b.SignKey
	if path == "" {
		path = b.path("keys", "update.key")
		if err := makeKey(path); err != nil {
			return nil, fmt.Errorf("make a key to sign bundles: %w", err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := osbundle.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// makeKey makes a key unless there is one.
func makeKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	text, _, err := osbundle.EncodeKeys(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, text, 0o600)
}

// updateKey is the public half of the signing key, in PEM.
func (b *build) updateKey() ([]byte, error) {
	key, err := b.signingKey()
	if err != nil {
		return nil, err
	}
	_, public, err := osbundle.EncodeKeys(key)
	return public, err
}

// addUpdateKey puts the key that signs the image's successors into it.
func (b *build) addUpdateKey(t *tree) error {
	key, err := b.updateKey()
	t.text("usr/share/keelson/update-keys.pem", string(key))
	return err
}

// makeBundle makes what installed nodes are updated from.
func (b *build) makeBundle(context.Context) error {
	key, err := b.signingKey()
	if err != nil {
		return err
	}
	hash, err := os.ReadFile(b.path("rootfs.roothash"))
	if err != nil {
		return err
	}
	files := map[string]string{
		osbundle.Loader: b.loader(),
		osbundle.Kernel: b.path("keelson.efi"),
		osbundle.Root:   b.path("rootfs.img"),
	}
	manifest := osbundle.Manifest{
		Version: version.Version, Build: b.BuildID, Architecture: b.arch.name, RootHash: strings.TrimSpace(string(hash)),
	}
	inputs := []string{manifest.Name(), manifest.RootHash, digestOf(string(key.Public().(ed25519.PublicKey)))}
	for _, name := range []string{osbundle.Loader, osbundle.Kernel, osbundle.Root} {
		sum, err := b.digest(files[name])
		if err != nil {
			return err
		}
		inputs = append(inputs, sum)
	}
	format, err := b.sourceDigest("pkg/osbundle")
	if err != nil {
		return err
	}
	return b.once("OS bundle", []string{b.path("keelson.bundle")}, append(inputs, format), func(partial []string) error {
		f, err := os.Create(partial[0])
		if err != nil {
			return err
		}
		if err := osbundle.Write(f, manifest, files, key, b.epoch); err != nil {
			return errors.Join(err, f.Close())
		}
		return f.Close()
	})
}
