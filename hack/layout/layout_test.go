// Package layout holds the repository to its layout: which top-level names
// there are, who may import whom, and how long a file may get.
package layout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module   = "github.com/keelson-os/keelson"
	root     = "../.."
	maxLines = 600
)

// topLevel are the only names at the top of the repository.
var topLevel = []string{
	".ci", ".dockerignore", ".gitignore", "ARCHITECTURE.md", "Dockerfile", "LICENSE", "Makefile", "README.md",
	"apid", "docs", "go.mod", "go.sum", "hack", "images", "machined", "osctl", "pkg",
}

func TestTopLevelNames(t *testing.T) {
	for _, file := range tracked(t) {
		if name, _, _ := strings.Cut(file, "/"); !slices.Contains(topLevel, name) {
			t.Errorf("%s: the top level has no place for %s", file, name)
		}
	}
}

// mayImport lists, by top-level folder, the others that its packages may
// import.
var mayImport = map[string][]string{
	"pkg":      {},
	"apid":     {"pkg"},
	"osctl":    {"pkg"},
	"images":   {"pkg"},
	"machined": {"pkg"},
	"hack":     {"pkg", "machined"},
}

func TestPartsImportOneWay(t *testing.T) {
	for _, p := range packages(t) {
		part := firstOf(p.ImportPath)
		may, ok := mayImport[part]
		if !ok {
			t.Errorf("%s: no rule for %s", p.ImportPath, part)
		}
		for _, imported := range p.imports() {
			if other := firstOf(imported); other != part && !slices.Contains(may, other) {
				t.Errorf("%s imports %s: %s may import only %v", p.ImportPath, imported, part, may)
			}
		}
	}
}

// What one stage of machined hands to the next passes through sequence.go: only
// main knows them all.
func TestStagesDoNotImportEachOther(t *testing.T) {
	shared := map[string][]string{
		"machined/host":      {},
		"machined/supervise": {},
	}
	for _, p := range packages(t) {
		stage := stageOf(p.ImportPath)
		if stage == "" {
			continue
		}
		may, ok := shared[stage]
		if !ok {
			may = []string{"machined/host", "machined/supervise"}
		}
		for _, imported := range p.imports() {
			other := stageOf(imported)
			if other != "" && other != stage && !slices.Contains(may, other) {
				t.Errorf("%s imports %s: it may import only %v", p.ImportPath, imported, may)
			}
		}
	}
}

// Process 1 must never die of someone else's bug.
func TestProcessOneHoldsNeitherKubernetesNorEtcd(t *testing.T) {
	forbidden := regexp.MustCompile(`^(k8s\.io|sigs\.k8s\.io|go\.etcd\.io)/`)
	dependencies := list(t, "-deps", "./machined")
	if len(dependencies) < 100 {
		t.Fatalf("go list gave only %d packages", len(dependencies))
	}
	for _, p := range dependencies {
		if forbidden.MatchString(p.ImportPath) {
			t.Errorf("machined holds %s", p.ImportPath)
		}
	}
}

func TestFoldersOfTheAPIHoldNothingElse(t *testing.T) {
	for _, file := range tracked(t) {
		if !strings.HasPrefix(file, "pkg/api/") {
			continue
		}
		noun := strings.Split(file, "/")[2]
		allowed := []string{noun + ".proto", noun + ".pb.go", noun + "_grpc.pb.go"}
		if filepath.Dir(file) != "pkg/api/"+noun || !slices.Contains(allowed, filepath.Base(file)) {
			t.Errorf("%s: pkg/api/%s holds only %v", file, noun, allowed)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, file := range tracked(t) {
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, ".pb.go") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted in the working tree
		}
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(content, []byte("\n")); lines > maxLines {
			t.Errorf("%s has %d lines; the most is %d", file, lines, maxLines)
		}
	}
}

// listed is what this test needs of a package in go list's terms.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// imports are this module's packages that a package imports, its tests included.
func (p listed) imports() []string {
	all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	return slices.DeleteFunc(all, func(path string) bool { return !strings.HasPrefix(path, module+"/") })
}

// firstOf is the top-level folder of a package of this module, else "".
func firstOf(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// stageOf is the stage of machined a package belongs to, else "".
func stageOf(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/machined/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return "machined/" + first
}

func packages(t *testing.T) []listed {
	t.Helper()
	found := list(t, "./...")
	if len(found) < 10 {
		t.Fatalf("go list gave only %d packages", len(found))
	}
	return found
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	output := run(t, "go", append([]string{"list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports"}, args...)...)
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// tracked are the files that git knows.
func tracked(t *testing.T) []string {
	t.Helper()
	var files []string
	for lines := bufio.NewScanner(bytes.NewReader(run(t, "git", "ls-files"))); lines.Scan(); {
		files = append(files, lines.Text())
	}
	if len(files) < 50 {
		t.Fatalf("git knows only %d files", len(files))
	}
	return files
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return output
}
