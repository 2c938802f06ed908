package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// once makes outputs (files or folders) unless they are there and were made
// from the same inputs before. The inputs are any strings that change when the
// outputs would; this command's own source is always one of them. produce gets
// a path for each output, which is moved into place when all went well.
func (b *build) once(what string, outputs, inputs []string, produce func(partial []string) error) error {
	source, err := b.sourceDigest("images")
	if err != nil {
		return err
	}
	want := digestOf(append([]string{source, b.arch.name, b.epoch.String()}, inputs...)...)
	stamp := b.path("build", "stamps", filepath.Base(outputs[0]))
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want && allExist(outputs) {
		return nil
	}

	b.log.say("%s", what)
	if err := os.RemoveAll(stamp); err != nil {
		return err
	}
	partial := make([]string, len(outputs))
	for i, output := range outputs {
		partial[i] = output + ".partial"
		if err := os.RemoveAll(partial[i]); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
			return err
		}
	}
	if err := produce(partial); err != nil {
		return err
	}
	for i, output := range outputs {
		if err := os.RemoveAll(output); err != nil {
			return err
		}
		if err := os.Rename(partial[i], output); err != nil {
			return err
		}
		delete(b.digests, output)
	}
	return renameio.WriteFile(stamp, []byte(want), 0o644)
}

func allExist(paths []string) bool {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

// sourceDigest stands for the tables and the code in a folder of this module
// that decide what is built.
func (b *build) sourceDigest(folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(b.source, folder, "*.go"))
	if err != nil {
		return "", err
	}
	var sums []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		sum, err := b.digest(file)
		if err != nil {
			return "", err
		}
		sums = append(sums, filepath.Base(file), sum)
	}
	return digestOf(sums...), nil
}

// digest returns a file's SHA-256 in hexadecimal.
func (b *build) digest(path string) (string, error) {
	if sum, ok := b.digests[path]; ok {
		return sum, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	b.digests[path] = hex.EncodeToString(hash.Sum(nil))
	return b.digests[path], nil
}

// digestOf returns a digest of a list; ["a", "b"] and ["ab"] differ.
func digestOf(list ...string) string {
	hash := sha256.New()
	for _, s := range list {
		fmt.Fprintf(hash, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
