package containers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/api/image"
)

func testEmbeddedImages(t *testing.T, s *Service) {
	const name = "example.com/embedded:1"
	from, remembered := t.TempDir(), filepath.Join(t.TempDir(), "imported")
	write := func(file string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(from, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	present := func() bool {
		t.Helper()
		records, err := s.records(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return find(records, name) != nil
	}
	if err := s.importEmbedded(t.Context(), from, remembered); err != nil {
		t.Errorf("an OS image without any: %v", err)
	}
	write("a.tar", []byte("no archive"))
	write("b.tar", archive(t, name))
	for range 2 { // one that cannot be imported keeps no other from it
		if err := s.importEmbedded(t.Context(), from, remembered); err == nil || !strings.Contains(err.Error(), "a.tar of the OS image") || !present() {
			t.Fatalf("%v; there: %t", err, present())
		}
	}
	kubeletPins(t, s, name, true)
	// What was imported is not imported again, unless it is gone.
	write("b.tar", []byte("not read"))
	if err := os.Remove(filepath.Join(from, "a.tar")); err != nil {
		t.Fatal(err)
	}
	if err := s.importEmbedded(t.Context(), from, remembered); err != nil {
		t.Error(err)
	}
	if _, err := s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	write("b.tar", archive(t, name))
	if err := s.importEmbedded(t.Context(), from, remembered); err != nil || !present() {
		t.Errorf("it was gone: %v; there: %t", err, present())
	}
	// Another OS image has others.
	if err := os.Rename(filepath.Join(from, "b.tar"), filepath.Join(from, "c.tar")); err != nil {
		t.Fatal(err)
	}
	if err := s.importEmbedded(t.Context(), from, remembered); err != nil {
		t.Error(err)
	}
	if _, err := s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: name}); err != nil {
		t.Fatal(err) // later steps count what is there
	}
	if notes, err := os.ReadDir(remembered); err != nil || len(notes) != 1 || notes[0].Name() != "c.tar.json" {
		t.Errorf("remembered: %v, %v", notes, err)
	}
}
