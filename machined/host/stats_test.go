package host

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// As captured from a two-CPU machine, shortened.
const (
	meminfo  = "MemTotal:       24689016 kB\nMemFree:        20233928 kB\nMemAvailable:   23514828 kB\nBuffers:          100116 kB\n"
	procStat = "cpu  55261 3 15261 189358 507 2 149 90 7 0\ncpu0 27430 0 7106 95609 69 0 21 39 0 0\n" +
		"intr 1227716 0 0 0\nctxt 2266018\nbtime 1795180000\n"
)

func TestReadStats(t *testing.T) {
	root := fstest.MapFS{"proc/meminfo": {Data: []byte(meminfo)}, "proc/stat": {Data: []byte(procStat)}}
	memory, err := ReadMemory(root)
	if want := (Memory{Total: 24689016 << 10, Available: 23514828 << 10}); err != nil || memory != want {
		t.Errorf("memory %+v, %v; want %+v", memory, err, want)
	}
	cpu, err := ReadCPU(root)
	want := CPU{
		Busy:            (55261 + 3 + 15261 + 2 + 149 + 90) * 10 * time.Millisecond,
		Idle:            (189358 + 507) * 10 * time.Millisecond,
		ContextSwitches: 2266018,
	}
	if err != nil || cpu != want {
		t.Errorf("CPU %+v, %v; want %+v", cpu, err, want)
	}
	if _, err := ReadCPU(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no /proc/stat: %v", err)
	}
}

func TestReadStatsRefusesNonsense(t *testing.T) {
	for _, text := range []string{"", "MemTotal: 1 kB\n", "MemTotal: x kB\n", "MemTotal: 99999999999999999999 kB\n"} {
		if m, err := parseMeminfo(strings.NewReader(text)); err == nil {
			t.Errorf("%q gave %+v", text, m)
		}
	}
	for _, text := range []string{"", "ctxt 1\n", "cpu 1 2 3 4 5 6 7 x\nctxt 1\n", "cpu 1 2 3\nctxt 1\n"} {
		if c, err := parseStat(strings.NewReader(text)); err == nil {
			t.Errorf("%q gave %+v", text, c)
		}
	}
}

func TestReadDisk(t *testing.T) {
	disk, err := ReadDisk(t.TempDir())
	if err != nil || disk.Total == 0 || disk.Available > disk.Total {
		t.Errorf("%+v, %v", disk, err)
	}
	if _, err := ReadDisk("/does/not/exist"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent path: %v", err)
	}
}
