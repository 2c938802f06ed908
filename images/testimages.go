package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	suite "k8s.io/kubernetes/test/utils/image"
	"sigs.k8s.io/yaml"

	"github.com/keelson-os/keelson/pkg/version"
)

// testRegistry is where the images of the conformance suite are said to be
// from: the suite's own names are for its own builds.
const testRegistry = "keelson.local/e2e"

// testRepositories is the suite's file that overrides its registries
// (KUBE_TEST_REPO_LIST). The registries that must not exist, or must not let
// one in, keep their names.
var testRepositories = map[string]string{
	"promoterE2eRegistry":      testRegistry,
	"buildImageRegistry":       testRegistry,
	"gcEtcdRegistry":           testRegistry,
	"gcRegistry":               testRegistry,
	"sigStorageRegistry":       testRegistry,
	"dockerLibraryRegistry":    testRegistry,
	"cloudProviderGcpRegistry": testRegistry,
}

// testImage is an image of the conformance suite.
type testImage struct {
	// ids are the suite's names for it; two of them are two versions, which
	// differ in nothing else here.
	ids []suite.ImageID
	// layers are below each other, the lowest first.
	layers []testLayer
	run    v1.Config
}

// testLayer is a layer that images share.
type testLayer struct {
	name string
	fill func(*suiteBuild, *tree) error
}

var (
	layerBusybox = testLayer{"busybox", (*suiteBuild).addBusybox}
	layerAgnhost = testLayer{"agnhost", (*suiteBuild).addAgnhost}
	layerGlibc   = testLayer{"glibc-dns-testing", (*suiteBuild).addDNSTools}
	layerNginx   = testLayer{"nginx", (*suiteBuild).addNginx}
	layerIPC     = testLayer{"ipc-utils", (*suiteBuild).addIPCTools}
)

// testImages are the images of the suite that are built here, as its own
// Dockerfiles (test/images of the Kubernetes module) describe them, with Debian's
// packages where those take Alpine's.
var testImages = []testImage{
	{[]suite.ImageID{suite.BusyBox}, []testLayer{layerBusybox}, v1.Config{Cmd: []string{"sh"}}},
	{[]suite.ImageID{suite.NonRoot}, []testLayer{layerBusybox}, v1.Config{Cmd: []string{"sh"}, User: "1234"}},
	{[]suite.ImageID{suite.Agnhost, suite.AgnhostPrev}, []testLayer{layerBusybox, layerAgnhost}, agnhostRuns("pause")},
	{[]suite.ImageID{suite.Nautilus}, []testLayer{layerBusybox, layerAgnhost, page("nautilus")}, agnhostRuns("test-webserver")},
	{[]suite.ImageID{suite.Kitten}, []testLayer{layerBusybox, layerAgnhost, page("kitten")}, agnhostRuns("test-webserver")},
	{[]suite.ImageID{suite.GlibcDnsTesting}, []testLayer{layerBusybox, layerGlibc}, v1.Config{Cmd: []string{"sh"}}},
	{[]suite.ImageID{suite.IpcUtils}, []testLayer{layerBusybox, layerIPC}, v1.Config{Cmd: []string{"sh"}}},
	{
		[]suite.ImageID{suite.Nginx, suite.NginxNew},
		[]testLayer{layerBusybox, layerNginx},
		v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, StopSignal: "SIGQUIT"},
	},
	{
		[]suite.ImageID{suite.Nonewprivs},
		[]testLayer{layerBusybox, oneProgram("nonewprivs", "usr/local/bin/nnp", fs.ModeSetuid|0o755)},
		v1.Config{Cmd: []string{"nnp"}},
	},
	{
		[]suite.ImageID{suite.RegressionIssue74839},
		[]testLayer{layerBusybox, oneProgram("regression-issue-74839", "regression-issue-74839", 0o755)},
		v1.Config{Entrypoint: []string{"/regression-issue-74839"}},
	},
	{
		[]suite.ImageID{suite.Pause},
		[]testLayer{oneProgram("pause", "pause", 0o755)},
		v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"},
	},
}

func agnhostRuns(command string) v1.Config {
	return v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{command}}
}

// testPrograms are the programs in them that are built from the module.
var testPrograms = []program{
	{name: "agnhost", pkg: "k8s.io/kubernetes/test/images/agnhost"},
	{name: "nonewprivs", pkg: "k8s.io/kubernetes/test/images/nonewprivs"},
	{name: "regression-issue-74839", pkg: "k8s.io/kubernetes/test/images/regression-issue-74839"},
	{name: "dnsserver", pkg: "./hack/conformance/dnsserver"},
	{name: "pause", pkg: "./images/bundle/pause"},
}

// suiteBuild is what the layers are filled from.
type suiteBuild struct {
	*build
	packages map[string]debPackage
	applets  []string // of busybox
	sources  string   // test/images of the Kubernetes module
}

// makeTestImages makes an archive of the images and the file that tells the
// suite their registry.
func (b *build) makeTestImages(ctx context.Context) error {
	if b.arch.foreign() {
		return errors.New("these images are made for this machine's architecture only: a program of one is run")
	}
	stamps, err := versionStamps(ctx, b.source)
	if err != nil {
		return err
	}
	b.log.say("programs of the conformance suite's images")
	if err := b.goBuild(ctx, testPrograms, noC, containerdTags, stamps); err != nil {
		return err
	}
	names, err := withDependencies(ctx, testPackages)
	if err != nil {
		return err
	}
	packages, err := b.fetchPackages(ctx, "testpackages", names)
	if err != nil {
		return err
	}
	module, err := command(ctx, b.source, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	applets, err := command(ctx, "", filepath.Join(packages["busybox-static"].dir, busyboxPath), "--list")
	if err != nil {
		return err
	}
	t := &suiteBuild{b, packages, strings.Fields(applets), filepath.Join(strings.TrimSpace(module), "test", "images")}

	inputs := []string{version.Version} // of the pages and certificates of the module
	for _, name := range names {
		inputs = append(inputs, packages[name].sha256)
	}
	for _, p := range testPrograms {
		sum, err := b.digest(b.program(p))
		if err != nil {
			return err
		}
		inputs = append(inputs, sum)
	}
	outputs := []string{b.path("conformance", "images.tar"), b.path("conformance", "repositories.yaml")}
	return b.once("images of the conformance suite", outputs, inputs, func(partial []string) error {
		return t.write(partial[0], partial[1])
	})
}

func (t *suiteBuild) write(archive, repositories string) error {
	list, err := yaml.Marshal(testRepositories)
	if err != nil {
		return err
	}
	if err := os.WriteFile(repositories, list, 0o644); err != nil {
		return err
	}
	// The suite itself says what its images are called.
	suite.Init(repositories)

	made := map[string]layer{}
	var images []container
	for _, i := range testImages {
		var layers []layer
		for _, l := range i.layers {
			if _, ok := made[l.name]; !ok {
				if made[l.name], err = t.makeLayer(l); err != nil {
					return fmt.Errorf("layer %s: %w", l.name, err)
				}
			}
			layers = append(layers, made[l.name])
		}
		for _, id := range i.ids {
			reference := suite.GetE2EImage(id)
			run := i.run
			run.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
			run.Labels = map[string]string{"name": reference} // sets versions of one content apart
			images = append(images, container{name: reference, layers: layers, config: run})
		}
	}
	return t.writeArchive(archive, images)
}

func (t *suiteBuild) makeLayer(l testLayer) (layer, error) {
	content := newTree()
	if err := l.fill(t, content); err != nil {
		return layer{}, err
	}
	return t.plainLayer(l.name, content)
}

// oneProgram is a layer of a program that was built.
func oneProgram(name, path string, mode fs.FileMode) testLayer {
	return testLayer{name, func(t *suiteBuild, content *tree) error {
		i := slices.IndexFunc(testPrograms, func(p program) bool { return p.name == name })
		content.file(path, t.program(testPrograms[i]), mode)
		return nil
	}}
}

// page is a layer of what an image of the update demo shows.
func page(name string) testLayer {
	return testLayer{name, func(t *suiteBuild, content *tree) error {
		for _, file := range []string{name + ".jpg", "data.json"} {
			content.file(file, filepath.Join(t.sources, name, "html", file), 0o644)
		}
		return nil
	}}
}
