package osbundle

import (
	"strings"
	"testing"
)

func TestMinorsAhead(t *testing.T) {
	for versions, want := range map[string]int{
		"v1.37.1 v1.37.2": 0, "v1.37.1 v1.38.0": 1, "v1.37.1 v1.39.0": 2, "v1.9.0 v1.10.0": 1, "v1.10.0 v1.9.3": -1, "v1.37.0 v2.0.0": 963,
	} {
		from, to, _ := strings.Cut(versions, " ")
		if got := MinorsAhead(from, to); got != want {
			t.Errorf("from %s to %s: %d, want %d", from, to, got, want)
		}
	}
}
