package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// osctl is how the cluster is reached, built by "make image".
const osctl = "bin/osctl"

// cluster is one that osctl has a context of; "" is the current context.
type cluster struct{ context string }

// kubeconfig writes a kubeconfig with a new certificate to a file.
func (c cluster) kubeconfig(ctx context.Context, file string) error {
	return c.osctl(ctx, io.Discard, "kubeconfig", "--force", file)
}

// importImages brings an archive's images to every node.
func (c cluster) importImages(ctx context.Context, archive string, log io.Writer) error {
	return c.osctl(ctx, log, "--node", "all", "image", "import", archive)
}

func (c cluster) osctl(ctx context.Context, log io.Writer, args ...string) error {
	if c.context != "" {
		args = append([]string{"--context", c.context}, args...)
	}
	if _, err := os.Stat(osctl); err != nil {
		return fmt.Errorf("%w: build it: make image", err)
	}
	cmd := exec.CommandContext(ctx, osctl, args...)
	var complaint strings.Builder
	cmd.Stdout, cmd.Stderr = log, &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("osctl %s: %w\n%s", strings.Join(args, " "), err, complaint.String())
	}
	return nil
}

// archivedImages lists the names of the images in an archive.
func archivedImages(archive string) ([]string, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", archive, err)
	}
	var names []string
	for _, image := range manifest {
		names = append(names, image.RepoTags...)
	}
	return names, nil
}
