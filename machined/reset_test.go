package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestANodeLeavesForGoodOrNotAtAll(t *testing.T) {
	for name, c := range map[string]struct {
		failing string // the step that fails
		want    string
	}{
		"all goes well":                  {"", "condemn leave"},
		"etcd refuses":                   {"leave", "condemn leave spare"},
		"the disk cannot be written":     {"condemn", "condemn"},
		"it cannot be taken back either": {"leave spare", "condemn leave spare"},
	} {
		var did []string
		step := func(name string) func(context.Context) error {
			return func(ctx context.Context) error {
				did = append(did, name)
				if name == "spare" && ctx.Err() != nil {
					t.Errorf("%s: the disk stays condemned when the time is over", c.failing)
				}
				if strings.Contains(c.failing, name) {
					return errors.New(name + " failed")
				}
				return nil
			}
		}
		late, cancel := context.WithCancel(t.Context())
		cancel()
		err := departure{condemn: step("condemn"), leave: step("leave"), spare: step("spare")}.run(late)
		if got := strings.Join(did, " "); got != c.want {
			t.Errorf("%s: did %s, want %s", name, got, c.want)
		}
		for _, failed := range strings.Fields(c.failing) {
			if err == nil || !strings.Contains(err.Error(), failed+" failed") {
				t.Errorf("%s: %v says nothing of %s", name, err, failed)
			}
		}
		if (err == nil) != (c.failing == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
