package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

func TestFaultCommands(t *testing.T) {
	for args, test := range map[string]struct {
		rules int
		fault vnet.Fault
		says  string
	}{
		"partition dev-1":             {6, vnet.Fault{Cut: true}, "dev-1 cut off from dev-2, dev-3, dev-4; osctl cluster heal joins them again"},
		"partition dev-1,dev-4 dev-1": {8, vnet.Fault{Cut: true}, "dev-1, dev-4 cut off from dev-2, dev-3"},
		"delay dev-2 200ms":           {6, vnet.Fault{Delay: 200 * time.Millisecond}, "dev-2: every frame is delayed by 200ms between it and the other nodes"},
		"delay dev-2 0":               {6, vnet.Fault{}, "dev-2: its links are healed"},
		"drop dev-2 12.5%":            {6, vnet.Fault{DropPercent: 12.5}, "dev-2: 12.5 % of the frames are lost"},
	} {
		harness, fake, _ := newGrownHarness(t, nil)
		if code := harness.run(t, append([]string{"cluster"}, strings.Fields(args)...)...); code != exitOK {
			t.Errorf("%s: exit code %d: %s", args, code, harness.err)
			continue
		}
		if len(fake.rules) != test.rules || fake.rules[0].Fault != test.fault || !strings.Contains(harness.out.String(), test.says) {
			t.Errorf("%s: rules %v, said %s", args, fake.rules, harness.out)
		}
	}
}

func TestHeal(t *testing.T) {
	harness, fake, _ := newGrownHarness(t, nil)
	if code := harness.run(t, "cluster", "heal"); code != exitOK || fmt.Sprint(fake.did) != "[heal]" {
		t.Errorf("exit code %d, did %v: %s", code, fake.did, harness.err)
	}
}

func TestFaultCommandsRefuse(t *testing.T) {
	for args, want := range map[string]string{
		"delay dev-1 soon":                  `DURATION "soon"`,
		"delay dev-1 -1s":                   "unknown shorthand flag",
		"delay dev-1 2m":                    "expected 0 to 1m0s",
		"drop dev-1 101":                    `PERCENT "101"`,
		"drop dev-1 NaN":                    `PERCENT "NaN"`,
		"partition dev-1,dev-2,dev-3,dev-4": "all nodes of cluster dev",
		"partition":                         "requires at least 1 arg",
	} {
		harness, fake, _ := newGrownHarness(t, nil)
		harness.fails(t, exitUsage, []string{want}, append([]string{"cluster"}, strings.Fields(args)...)...)
		if len(fake.rules) > 0 {
			t.Errorf("%s: set %v", args, fake.rules)
		}
	}
	harness, _, _ := newGrownHarness(t, nil)
	harness.fails(t, exitError, []string{`no node "x"`}, "cluster", "partition", "dev-1,x")
}
