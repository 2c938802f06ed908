// Package main is a part of machined in an image that hangs: the build of that
// image lays this file over machined's own (testHangingUpdate).
package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func init() {
	if os.Getpid() == 1 {
		go hang()
	}
}

// hang has the kernel stop process 1 for ever, when the watchdog runs and the boot
// is under way. Signals could not: process 1 ignores those that stop a process.
func hang() {
	const frozen = "/sys/fs/cgroup/frozen"
	for {
		if state, _ := os.ReadFile("/sys/class/watchdog/watchdog0/state"); strings.TrimSpace(string(state)) == "active" {
			break
		}
		time.Sleep(time.Second)
	}
	time.Sleep(20 * time.Second)
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
