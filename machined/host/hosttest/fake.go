// Package hosttest is a fake of host.OS for the tests of the boot stages: it
// records every call and fails exactly those that a test names.
package hosttest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	"github.com/keelson-os/keelson/machined/host"
)

// OS is a machine that does not exist. Fill in the fields before its first use.
type OS struct {
	// Files is the root file system.
	Files fstest.MapFS
	// Fail maps a call as Calls shows it, or a prefix of it, to its error:
	// "Mount tmpfs /run" or just "Mount".
	Fail map[string]error
	// Programs answers Run by the program's path; an absent one fails.
	Programs map[string]func(args []string) (output string, err error)
	// Uptime is what SinceBoot says.
	Uptime time.Duration

	mu    sync.Mutex
	calls []string
}

var _ host.OS = (*OS)(nil)

// Calls are the calls so far, in order, each as one line.
func (o *OS) Calls() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

// record notes a call and returns the error the test wants from it: that of the
// longest prefix.
func (o *OS) record(call string, args ...any) error {
	line := strings.TrimRight(call+" "+fmt.Sprintln(args...), " \n")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, line)
	var longest string
	for prefix := range o.Fail {
		if strings.HasPrefix(line, prefix) && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	return o.Fail[longest]
}

// Root is Files.
func (o *OS) Root() fs.FS { return o.Files }

// WriteControl records "WriteControl PATH VALUE".
func (o *OS) WriteControl(path, value string) error { return o.record("WriteControl", path, value) }

// MkdirAll records "MkdirAll PATH MODE".
func (o *OS) MkdirAll(path string, mode fs.FileMode) error { return o.record("MkdirAll", path, mode) }

// Mount records "Mount FSTYPE TARGET SOURCE FLAGS DATA".
func (o *OS) Mount(source, target, fstype string, flags uintptr, data string) error {
	return o.record("Mount", fstype, target, source, flags, data)
}

// Unmount records "Unmount TARGET FLAGS".
func (o *OS) Unmount(target string, flags int) error { return o.record("Unmount", target, flags) }

// LoadModule records "LoadModule PATH".
func (o *OS) LoadModule(path string) error { return o.record("LoadModule", path) }

// SetHostname records "SetHostname NAME".
func (o *OS) SetHostname(name string) error { return o.record("SetHostname", name) }

// RaiseFileLimit records "RaiseFileLimit N".
func (o *OS) RaiseFileLimit(files uint64) error { return o.record("RaiseFileLimit", files) }

// Run records "Run PATH ARGS" and answers from Programs.
func (o *OS) Run(_ context.Context, path string, args ...string) (string, error) {
	if err := o.record("Run", path, strings.Join(args, " ")); err != nil {
		return "", err
	}
	program, ok := o.Programs[path]
	if !ok {
		return "", fmt.Errorf("run %s: %w", path, fs.ErrNotExist)
	}
	return program(args)
}

// SinceBoot is Uptime.
func (o *OS) SinceBoot() time.Duration { return o.Uptime }

// Sync records "Sync".
func (o *OS) Sync() { _ = o.record("Sync") }

// Reboot records "Reboot MODE".
func (o *OS) LoadKexec(_, _ *os.File, commandLine string) error {
	return o.record("LoadKexec", commandLine)
}

func (o *OS) Reboot(mode host.RebootMode) error { return o.record("Reboot", mode) }
