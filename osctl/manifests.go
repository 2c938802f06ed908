package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// maxManifest bounds one file of manifests, in bytes: etcd takes no object
// above 1.5 MiB, so a larger file was hardly meant.
const maxManifest = 3 << 20

// manifestSuffixes are the files that are taken from a directory.
var manifestSuffixes = []string{".yaml", ".yml", ".json"}

// manifestFlags are kubectl's flags that say where manifests are.
type manifestFlags struct {
	files     []string
	kustomize string
	recursive bool
}

func (m *manifestFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringSliceVarP(&m.files, "filename", "f", nil, "file, directory, URL, or - for standard input; several with commas, or the flag again")
	flags.StringVarP(&m.kustomize, "kustomize", "k", "", "directory with a kustomization.yaml; not together with -f")
	flags.BoolVarP(&m.recursive, "recursive", "R", false, "take the directories' subdirectories too")
	command.MarkFlagsMutuallyExclusive("filename", "kustomize")
}

func (m *manifestFlags) given() bool { return len(m.files) > 0 || m.kustomize != "" }

// read reads all that the flags name.
func (m *manifestFlags) read(ctx context.Context, app *app) ([]*workload.Manifest, error) {
	if m.kustomize != "" {
		return kustomized(m.kustomize)
	}
	return app.readManifests(ctx, m.files, m.recursive)
}

// kustomized builds a kustomization.
func kustomized(dir string) ([]*workload.Manifest, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize: %w", err)
	}
	text, err := built.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", dir, err)
	}
	manifest, err := readManifest(dir, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	return []*workload.Manifest{manifest}, nil
}

// readManifests reads files, directories (their manifests, by name), URLs and
// standard input ("-").
func (app *app) readManifests(ctx context.Context, names []string, recursive bool) ([]*workload.Manifest, error) {
	var manifests []*workload.Manifest
	for _, name := range names {
		if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
			manifest, err := fetchManifest(ctx, name)
			if err != nil {
				return nil, err
			}
			manifests = append(manifests, manifest)
			continue
		}
		if name == "-" {
			manifest, err := readManifest("-", app.stdin)
			if err != nil {
				return nil, err
			}
			manifests = append(manifests, manifest)
			continue
		}
		files, err := manifestFiles(name, recursive)
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			manifest, err := readManifestFile(path)
			if err != nil {
				return nil, err
			}
			manifests = append(manifests, manifest)
		}
	}
	return manifests, nil
}

// manifestFiles lists what a file or directory stands for.
func manifestFiles(name string, recursive bool) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var files []string
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != name && !recursive {
				return filepath.SkipDir
			}
			return nil
		}
		if slices.Contains(manifestSuffixes, filepath.Ext(path)) {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no .yaml, .yml or .json file in this directory", name)
	}
	return files, nil
}

// fetchTimeout bounds fetching one manifest.
const fetchTimeout = time.Minute

func fetchManifest(ctx context.Context, address string) (*workload.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: the server answered %s", address, response.Status)
	}
	return readManifest(address, response.Body)
}

func readManifestFile(path string) (*workload.Manifest, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readManifest(path, file)
}

func readManifest(source string, reader io.Reader) (*workload.Manifest, error) {
	content, err := io.ReadAll(io.LimitReader(reader, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	if len(content) > maxManifest {
		return nil, fmt.Errorf("%s: larger than %s: split it", source, size(maxManifest))
	}
	return &workload.Manifest{Source: source, Content: content}, nil
}

// results prints what became of each object and counts the refused ones.
type results struct {
	app    *app
	format string
	// objects prints the objects themselves instead, if it is set.
	objects       *objectPrinter
	total, failed int
	suffix        string
	// warned is what the user has been warned of.
	warned map[string]bool
}

func (results *results) add(result *workload.ObjectResult) error {
	results.total++
	for _, warning := range result.GetWarnings() {
		if results.warned[warning] {
			continue // of another object too
		}
		if results.warned == nil {
			results.warned = map[string]bool{}
		}
		results.warned[warning] = true
		fmt.Fprintf(results.app.stderr, "%s %s\n", results.app.paint(yellow, "Warning:"), warning)
	}
	var err error
	switch {
	case results.objects != nil:
	case results.format != asTable && results.format != asName:
		err = results.app.printStreamed(results.format, result)
	case result.GetError() != "":
	case results.format == asName:
		_, err = fmt.Fprintln(results.app.stdout, result.GetObject())
	default:
		_, err = fmt.Fprintf(results.app.stdout, "%s %s%s\n", result.GetObject(), result.GetAction(), results.suffix)
	}
	if err != nil || result.GetError() == "" {
		return err
	}
	results.failed++
	where := ""
	if result.GetSource() != "" {
		where = result.GetSource() + ":"
		if result.GetLine() > 0 {
			where += fmt.Sprintf("%d:", result.GetLine())
		}
		where += " "
	}
	object := ""
	if result.GetObject() != "" {
		object = result.GetObject() + ": "
	}
	_, err = fmt.Fprintf(results.app.stderr, "%s%s%s\n", where, object, results.app.paint(red, result.GetError()))
	return err
}

// err is an error when any object was refused.
func (results *results) err() error {
	switch {
	case results.failed == 0:
		return nil
	case results.total == 1:
		return errors.New("the object was refused: see above")
	}
	return fmt.Errorf("%d of %d objects were refused: see above", results.failed, results.total)
}
