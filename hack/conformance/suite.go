package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keelson-os/keelson/pkg/version"
)

// suite is the upstream conformance suite and what it needs, built.
type suite struct {
	binary       string // e2e.test
	kubectl      string
	images       string // an archive of the images of its pods
	repositories string // says where the images are said to be from
}

// buildSuite builds the suite from the Kubernetes module of go.mod into a folder
// below artifacts. What is up to date is left alone.
func buildSuite(ctx context.Context, artifacts string, log io.Writer) (suite, error) {
	dir := filepath.Join(artifacts, "conformance")
	s := suite{
		binary:       filepath.Join(dir, "e2e.test"),
		kubectl:      filepath.Join(dir, "kubectl"),
		images:       filepath.Join(dir, "images.tar"),
		repositories: filepath.Join(dir, "repositories.yaml"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return suite{}, err
	}
	ldflags := "-s -w " + stamps()
	for _, step := range []struct {
		what string
		args []string
	}{
		{"the images of the suite", []string{"run", "./images", "-out", artifacts, "testimages"}},
		{"kubectl", []string{"build", "-ldflags", ldflags, "-o", s.kubectl, "k8s.io/kubernetes/cmd/kubectl"}},
		{"the suite (minutes, the first time)", []string{"test", "-c", "-vet=off", "-ldflags", ldflags, "-o", s.binary, "k8s.io/kubernetes/test/e2e"}},
	} {
		fmt.Fprintln(log, "building", step.what)
		cmd := exec.CommandContext(ctx, "go", step.args...)
		// As make does, so that all share one build cache.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			return suite{}, fmt.Errorf("build %s: %w", step.what, err)
		}
	}
	return s, nil
}

// stamps are the linker flags that tell the programs their version, which
// "kubectl version" shows and a spec compares.
func stamps() string {
	number := strings.Split(strings.TrimPrefix(version.Version, "v"), ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			"-X "+pkg+".gitVersion="+version.Version, "-X "+pkg+".gitMajor="+number[0], "-X "+pkg+".gitMinor="+number[1],
			"-X "+pkg+".gitCommit=", "-X "+pkg+".gitTreeState=clean")
	}
	return strings.Join(flags, " ")
}

// specs lists the full names of all specs.
func (s suite) specs(ctx context.Context) ([]string, error) {
	text, err := s.ask(ctx, "--list-tests")
	if err != nil {
		return nil, err
	}
	specs := parseSpecList(text)
	if len(specs) == 0 {
		return nil, errors.New("the suite lists no specs")
	}
	return specs, nil
}

// missingImages lists the images that the suite names and that were not built,
// without their registries.
func (s suite) missingImages(ctx context.Context) ([]string, error) {
	text, err := s.ask(ctx, "--list-images")
	if err != nil {
		return nil, err
	}
	built, err := archivedImages(s.images)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range strings.Fields(text) {
		if !slices.Contains(built, name) {
			missing = append(missing, path.Base(name))
		}
	}
	slices.Sort(missing)
	return missing, nil
}

func (s suite) ask(ctx context.Context, flag string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, flag)
	cmd.Env = append(os.Environ(), "KUBE_TEST_REPO_LIST="+s.repositories)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("e2e.test %s: %w\n%s", flag, err, complaint.String())
	}
	return string(out), nil
}
