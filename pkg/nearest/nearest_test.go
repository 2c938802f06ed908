package nearest

import (
	"fmt"
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	names := []string{"pods", "pod", "po", "deployments", "deployment", "deploy", "endpoints"}
	for _, test := range []struct {
		typed string
		want  []string
	}{
		{"podz", []string{"pod", "pods"}},
		{"deploymnts", []string{"deployments", "deployment"}},
		{"unicorns", nil},
		{"x", nil},
	} {
		if got := Names(test.typed, names); !slices.Equal(got, test.want) {
			t.Errorf("nearest to %q: %q, want %q", test.typed, got, test.want)
		}
	}
}

func TestList(t *testing.T) {
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("worker-%02d", i))
	}
	for want, names := range map[string][]string{
		"none":     nil,
		"a, b":     {"b", "a"},
		"worker-1": {"worker-1"},
		"worker-12, worker-02, worker-10, worker-11, worker-13, worker-14, worker-15, worker-16, worker-17, worker-18, worker-19, worker-00 and 8 more": many,
	} {
		if got := List("worker-12", names); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
