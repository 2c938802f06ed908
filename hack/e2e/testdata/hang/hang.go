// Package main is a part of machined in an image that hangs: the build of that
// image lays this file over machined's own (testHangingUpdate).
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/keelson-os/keelson/machined/api"
)

func init() {
	if os.Getpid() == 1 {
		go hang()
	}
}

// late is when the boot must have got so far that it may hang.
const late = 5 * time.Minute

// hang has the kernel stop process 1 for ever, in the middle of the boot: when the
// watchdog runs, and the API says that the phase before it remembered the attempt.
// Signals could not: process 1 ignores those that stop a process.
func hang() {
	const frozen = "/sys/fs/cgroup/frozen"
	deadline := time.After(late)
	// Neither of the two is an event that could be waited for.
	for tick := time.NewTicker(time.Second); !underWay(); {
		select {
		case <-tick.C:
		case <-deadline:
			panic("the boot does not get as far as to hang")
		}
	}
	fmt.Fprintln(os.Stderr, "process 1 hangs from now on")
	if err := os.Mkdir(frozen, 0o755); err != nil {
		panic(err)
	}
	for _, file := range []string{"cgroup.procs", "cgroup.freeze"} {
		if err := os.WriteFile(frozen+"/"+file, []byte("1"), 0o644); err != nil {
			panic(err)
		}
	}
}

func underWay() bool {
	state, _ := os.ReadFile("/sys/class/watchdog/watchdog0/state") // absent until its driver is loaded
	_, err := os.Stat(api.Socket)
	return strings.TrimSpace(string(state)) == "active" && err == nil
}
