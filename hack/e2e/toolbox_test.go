package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const toolboxImage = "keelson.local/toolbox:test"

// toolboxArchive builds the toolbox's image once and returns its archive.
var toolboxArchive = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "toolbox-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "toolbox")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "./toolbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the toolbox: %w: %s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}

	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "toolbox", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64",
		Config: v1.Config{Entrypoint: []string{"/toolbox"}, Cmd: []string{"wait"}},
		RootFS: must(image.ConfigFile()).RootFS,
	})
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	err = tarball.Write(must(name.ParseReference(toolboxImage)), image, &archive)
	return archive.Bytes(), err
})

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// toolbox is a privileged pod that sees the node's processes and files.
type toolbox struct{}

const toolboxManifest = `
apiVersion: v1
kind: Pod
metadata: {name: toolbox, namespace: kube-system}
spec:
  hostPID: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: toolbox
    image: ` + toolboxImage + `
    imagePullPolicy: Never
    securityContext: {privileged: true}
    volumeMounts: [{name: host-var, mountPath: /host/var}]
  volumes: [{name: host-var, hostPath: {path: /var}}]
`

// startToolbox makes sure that the toolbox runs.
func startToolbox(t *testing.T) toolbox {
	t.Helper()
	if out := osctl(t, "image", "list", "-o", "name"); !strings.Contains(out, toolboxImage) {
		archive, err := toolboxArchive()
		if err != nil {
			t.Fatal(err)
		}
		osctl(t, "image", "import", write(t, "toolbox.tar", archive))
	}
	eventually(t, "the toolbox runs", func() error {
		if _, err := osctlFor(settleDeadline, []byte(toolboxManifest), "apply", "-f", "-"); err != nil {
			return err
		}
		phase, err := osctlFor(settleDeadline, nil, "get", "pod", "toolbox", "-n", "kube-system", "-o", "jsonpath={.status.phase}")
		if err != nil {
			return err
		}
		if phase == "Failed" || phase == "Succeeded" {
			// The node's shutdown ended it, and nobody makes a bare pod anew.
			if _, err := osctlFor(settleDeadline, nil, "delete", "pod", "toolbox", "-n", "kube-system"); err != nil {
				return err
			}
			return fmt.Errorf("it had ended: %s", phase)
		}
		if phase != "Running" {
			return fmt.Errorf("its phase is %q", phase)
		}
		return nil
	})
	return toolbox{}
}

// run runs a command of the toolbox and returns what it printed.
func (toolbox) run(t *testing.T, args ...string) string {
	t.Helper()
	var out string
	eventually(t, "toolbox "+strings.Join(args, " "), func() (err error) {
		out, err = osctlFor(settleDeadline, nil, append([]string{"exec", "-n", "kube-system", "pod/toolbox", "--", "/toolbox"}, args...)...)
		return err
	})
	return out
}
