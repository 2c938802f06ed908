package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// defaultEpoch is the time that everything in the artefacts bears, unless
// SOURCE_DATE_EPOCH (reproducible-builds.org) names another: 2026-01-01.
const defaultEpoch = 1767225600

// lockInterval is how often a build asks whether another one is over.
const lockInterval = 200 * time.Millisecond

// build is one run: where things are, and what earlier targets found out.
type build struct {
	source string // the module's folder
	out    string // artefacts
	debs   string // downloaded packages
	arch   architecture
	epoch  time.Time
	log    *progress
	profile

	digests map[string]string     // of files read so far
	sysroot map[string]debPackage // of a foreign architecture; set by the target programs
	debian  map[string]debPackage // by name; set by the target packages
	modules moduleTree            // set by the target modules
}

func newBuild(out string, arch architecture, log io.Writer) (*build, error) {
	source, err := moduleFolder()
	if err != nil {
		return nil, err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	epoch := int64(defaultEpoch)
	if set := os.Getenv("SOURCE_DATE_EPOCH"); set != "" {
		if epoch, err = strconv.ParseInt(set, 10, 64); err != nil {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w; set it to seconds since 1970", err)
		}
	}
	// Debian keeps depmod and veritysetup where only root's path leads.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	return &build{
		source:  source,
		out:     out,
		debs:    filepath.Join(out, "debs"),
		arch:    arch,
		epoch:   time.Unix(epoch, 0).UTC(),
		log:     newProgress(log),
		digests: map[string]string{},
	}, nil
}

// takeOver links what another build left, which is looked through as if this one had
// left it. What is there already stays.
func (b *build) takeOver(ctx context.Context, from string) error {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	for _, folder := range []string{"build", "debs", "keys"} {
		if allExist([]string{b.path(folder)}) {
			continue
		}
		if _, err := command(ctx, "", "cp", "--archive", "--link", filepath.Join(from, folder), b.out); err != nil {
			return fmt.Errorf("take over %s of the build in %s: %w", folder, from, err)
		}
	}
	return nil
}

// make makes the chosen targets one after the other.
func (b *build) make(ctx context.Context, chosen []target) error {
	for _, dir := range []string{b.debs, b.path("build", "stamps")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, t := range chosen {
		if err := t.make(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	b.log.say("everything is up to date in %s", b.out)
	return nil
}

// lock waits until no other build works in the same folder: two would move
// each other's half-made files into place.
func (b *build) lock(ctx context.Context) (unlock func() error, err error) {
	f, err := os.Create(b.path("build", "lock"))
	if err != nil {
		return nil, err
	}
	// Asked again and again, so that an interrupt ends the wait.
	again := time.NewTicker(lockInterval)
	defer again.Stop()
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// The lock goes with the file, also when this process is killed.
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if !said {
			b.log.say("waiting for another build in %s", b.out)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}

// path is a path below the folder of the artefacts. What is made on the way
// to an artefact is below "build".
func (b *build) path(elements ...string) string {
	return filepath.Join(append([]string{b.out}, elements...)...)
}

// moduleFolder finds the module that the working directory is in.
func moduleFolder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("no go.mod here or above: run it in Keelson's source tree")
		}
		dir = filepath.Dir(dir)
	}
}

// command runs a program and returns what it printed; an error holds what it
// complained about.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", commandError(cmd, err, stderr.String())
	}
	return stdout.String(), nil
}

func commandError(cmd *exec.Cmd, err error, complaint string) error {
	name := filepath.Base(cmd.Path)
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed; hack/setup.sh build installs it", name)
	}
	return fmt.Errorf("%s: %w\n%s", name, err, strings.TrimSpace(complaint))
}
