package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestApplyTellsTheResultOfEachObject(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "web.yaml"), "kind: Pod\n")
	node.results = []*workload.ObjectResult{{Object: "pod/web", Action: "created"}, {Object: "service/web", Action: "unchanged"}}
	harness.golden(t, "apply.txt", "apply", "-f", file, "-n", "shop", "--dry-run")
	if got := node.applied; got.GetNamespace() != "shop" || !got.GetDryRun() || len(got.GetManifests()) != 1 ||
		got.GetManifests()[0].GetSource() != file || string(got.GetManifests()[0].GetContent()) != "kind: Pod\n" {
		t.Errorf("applied %v", got)
	}
	node.results = append(node.results,
		&workload.ObjectResult{Object: "pod/Bad_Name", Source: "web.yaml", Line: 7, Error: "metadata.name: Invalid value"},
		&workload.ObjectResult{Source: "web.yaml", Line: 12, Error: "no kind"})
	harness.fails(t, exitError, []string{
		"web.yaml:7: pod/Bad_Name: metadata.name: Invalid value\n", "web.yaml:12: no kind\n", "2 of 4 objects were refused",
	}, "apply", "-f", file)
	if got := node.applied; got.GetReturnObjects() {
		t.Errorf("applied %v", got)
	}
	node.objects = map[string]string{"pod/web": podObject}
	harness.fails(t, exitError, []string{"web.yaml:12: no kind\n"}, "apply", "-f", file, "-o", "yaml")
	if !node.applied.GetReturnObjects() {
		t.Errorf("applied %v", node.applied)
	}
	compareGolden(t, "apply.yaml", harness.out.String())
	node.objects["service/web"] = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"web"}}`
	harness.fails(t, exitError, []string{"web.yaml:12: no kind\n"}, "apply", "-f", file, "-o", "json", "--dry-run")
	compareGolden(t, "apply.json", harness.out.String())
	harness.fails(t, exitError, []string{"web.yaml:12: no kind\n"}, "apply", "-f", file, "-o", "name")
	if got := harness.out.String(); got != "pod/web\nservice/web\n" {
		t.Errorf("names: %q", got)
	}
	node.results = nil
	harness.fails(t, exitError, []string{"no object"}, "apply", "-f", file)
}

func TestApplyReadsFilesFoldersAndStandardInput(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.results = []*workload.ObjectResult{{Object: "pod/web", Action: "created"}}
	dir := t.TempDir()
	for _, name := range []string{"b.yml", "a.yaml", "c.json", "notes.txt", "sub/d.yaml"} {
		writeFile(t, filepath.Join(dir, name), name)
	}
	harness.stdin.Reset("from standard input")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-f", dir, "-f", "-"}, "a.yaml b.yml c.json from standard input"},
		{[]string{"-R", "-f", dir}, "a.yaml b.yml c.json sub/d.yaml"},
		{[]string{"-f", filepath.Join(dir, "notes.txt")}, "notes.txt"},
		{[]string{"-f", filepath.Join(dir, "c.json") + "," + filepath.Join(dir, "a.yaml"), "-f", filepath.Join(dir, "b.yml")}, "c.json a.yaml b.yml"},
	} {
		if code := harness.run(t, append([]string{"apply"}, test.args...)...); code != exitOK {
			t.Fatalf("%v: exit code %d: %s", test.args, code, harness.err)
		}
		var got []string
		for _, manifest := range node.applied.GetManifests() {
			got = append(got, string(manifest.GetContent()))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%v: read %q, want %s", test.args, got, test.want)
		}
	}
	harness.fails(t, exitError, []string{"no .yaml"}, "apply", "-f", t.TempDir())
	harness.fails(t, exitError, []string{"none.yaml"}, "apply", "-f", "none.yaml")
	large := writeFile(t, filepath.Join(dir, "large.yaml"), strings.Repeat("#", maxManifest+1))
	harness.fails(t, exitError, []string{"large.yaml: larger than"}, "apply", "-f", large)
}
