package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testPinnedImage pins and unpins the imported sample.
func testPinnedImage(t *testing.T) {
	pinned := func() string {
		for line := range strings.Lines(osctl(t, "image", "list")) {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] == sampleImage {
				return fields[len(fields)-1]
			}
		}
		t.Fatalf("%s is not listed", sampleImage)
		return ""
	}
	osctl(t, "image", "import", "--pin", filepath.Join(artifacts, "sample-web.tar"))
	if got := pinned(); got != "yes" {
		t.Errorf("imported with --pin: pinned is %q", got)
	}
	osctl(t, "image", "unpin", sampleImage)
	if got := pinned(); got == "yes" {
		t.Error("unpinned, and still pinned")
	}
	osctlFails(t, []string{"belongs to the OS"}, "image", "unpin", pauseImage(t))
}

// testSpread imports on every node of a cluster at once, in one upload.
func testSpread(t *testing.T, c ha) {
	nodes := append(slices.Clone(c.controlPlanes), c.worker)
	archive := filepath.Join(artifacts, "sample-web.tar")
	holders := func() []string {
		var found []string
		for line := range strings.Lines(osctl(t, "-N", "all", "image", "list")) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[1] == sampleImage {
				found = append(found, fields[0])
			}
		}
		return found
	}
	out := osctl(t, "-N", "all", "image", "import", archive)
	for _, node := range nodes {
		if !strings.Contains(out, node+": "+sampleImage+" imported") {
			t.Errorf("the import says nothing of %s:\n%s", node, out)
		}
	}
	if got := holders(); !slices.Equal(got, nodes) {
		t.Errorf("%s is on %q, want it on %q", sampleImage, got, nodes)
	}
	osctl(t, "-N", "all", "image", "rm", sampleImage)

	whole, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	// What is wrong with an archive, every node says; what is wrong with a node
	// costs the others nothing.
	osctlFails(t, []string{"node ha-1: ", "node ha-4: ", "it is truncated"}, "-N", "all", "image", "import", write(t, "half.tar", whole[:len(whole)/2]))
	if got := holders(); len(got) > 0 {
		t.Errorf("half an archive left an image on %q", got)
	}
	osctlFails(t, []string{"node ha-9: ", "no node"}, "-N", "ha-9,ha-2,ha-4", "image", "import", archive)
	if got := holders(); !slices.Equal(got, []string{"ha-2", "ha-4"}) {
		t.Errorf("beside a node that does not exist, %s is on %q", sampleImage, got)
	}
}
