package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// EmbeddedDir is where the OS image has the archives that it was built with
// (images, -image), each named after its SHA-256: DIGEST.tar.
const EmbeddedDir = "/usr/share/keelson/images"

// importedDir remembers, per archive, the names of the images that came of it.
const importedDir = "/var/lib/keelson/imported"

// ImportEmbedded imports the archives of the OS image that were not, or whose
// images are gone since, and pins what is in them. It needs a containerd that
// answers. An archive that cannot be imported is skipped, and told of in the error.
func (s *Service) ImportEmbedded(ctx context.Context) error {
	return s.importEmbedded(ctx, EmbeddedDir, importedDir)
}

func (s *Service) importEmbedded(ctx context.Context, from, remembered string) error {
	archives, err := filepath.Glob(filepath.Join(from, "*.tar"))
	if err != nil || len(archives) == 0 {
		return err
	}
	if err := os.MkdirAll(remembered, 0o755); err != nil {
		return err
	}
	var failed []error
	for _, archive := range archives {
		if err := s.importOnce(ctx, archive, filepath.Join(remembered, filepath.Base(archive)+".json")); err != nil {
			failed = append(failed, fmt.Errorf("import %s of the OS image: %w", archive, err))
		}
	}
	return errors.Join(append(failed, forgetOthers(remembered, archives))...)
}

// importOnce imports an archive unless the images that the note names are there.
func (s *Service) importOnce(ctx context.Context, archive, note string) error {
	records, err := s.records(ctx)
	if err != nil {
		return err
	}
	var names []string
	if text, err := os.ReadFile(note); err == nil && json.Unmarshal(text, &names) == nil && len(names) > 0 {
		gone := func(name string) bool { return find(records, name) == nil }
		if !slices.ContainsFunc(names, gone) {
			return nil
		}
	}
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	images, err := s.importArchive(ctx, file, importOptions{pin: true, strange: true, keepFree: spaceKept})
	if err != nil {
		return err
	}
	names = nil
	for _, image := range images {
		names = append(names, image.GetName())
	}
	text, err := json.Marshal(names)
	if err != nil {
		return err
	}
	return renameio.WriteFile(note, text, 0o644)
}

// forgetOthers removes the notes of archives of other OS images.
func forgetOthers(remembered string, archives []string) error {
	notes, err := os.ReadDir(remembered)
	if err != nil {
		return err
	}
	for _, note := range notes {
		of := func(archive string) bool { return filepath.Base(archive) == strings.TrimSuffix(note.Name(), ".json") }
		if !slices.ContainsFunc(archives, of) {
			if err := os.Remove(filepath.Join(remembered, note.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
