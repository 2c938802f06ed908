package provision

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	layout, err := Plan(testOptions("/out", "/bin/sh"))
	if err != nil {
		t.Fatal(err)
	}
	want := "{demo 10.77.0.0/24 10.77.0.1 [{cp-1 true 10.77.0.11 52:54:0a:4d:00:0b invalid AddrPort invalid AddrPort}" +
		" {w-1 false 10.77.0.12 52:54:0a:4d:00:0c invalid AddrPort invalid AddrPort}]}"
	if got := fmt.Sprint(layout); got != want {
		t.Errorf("layout\n%s\nwant\n%s", got, want)
	}
}

func TestPlanRefuses(t *testing.T) {
	many := make([]Node, 300)
	for i := range many {
		many[i].Name = fmt.Sprintf("n-%d", i)
	}
	tests := map[string]struct {
		change func(*Options)
		want   string
	}{
		"no name":         {func(o *Options) { o.Name = "" }, "cluster name"},
		"path as name":    {func(o *Options) { o.Name = "../x" }, "cluster name"},
		"long name":       {func(o *Options) { o.Name = strings.Repeat("a", 64) }, "cluster name"},
		"no nodes":        {func(o *Options) { o.Nodes = nil }, "at least one node"},
		"node name":       {func(o *Options) { o.Nodes[0].Name = "CP_1" }, "node name"},
		"same name":       {func(o *Options) { o.Nodes[1].Name = "cp-1" }, "is taken"},
		"gateway's name":  {func(o *Options) { o.Nodes[1].Name = "gateway" }, "is taken"},
		"negative CPUs":   {func(o *Options) { o.Nodes[0].CPUs = -1 }, "CPUs"},
		"little memory":   {func(o *Options) { o.Nodes[0].MemoryMiB = 64 }, "memory"},
		"small disk":      {func(o *Options) { o.Nodes[0].DiskMiB = 1 }, "disk"},
		"IPv6":            {func(o *Options) { o.Subnet = netip.MustParsePrefix("fd00::/64") }, "subnet"},
		"small subnet":    {func(o *Options) { o.Subnet = netip.MustParsePrefix("10.0.0.0/29") }, "subnet"},
		"too many nodes":  {func(o *Options) { o.Nodes = many }, "no room"},
		"no such program": {func(o *Options) { o.NetworkCommand = []string{"/no/such"} }, "network process"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			opts := testOptions("/out", "/bin/sh")
			test.change(&opts)
			if _, err := Plan(opts); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}
