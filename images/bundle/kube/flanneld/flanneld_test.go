package flanneld

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestConflist(t *testing.T) {
	got, err := conflist("10.244.3.0/24", 1450)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "keelson.conflist")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (go test -update writes it anew):\n%s", golden, diff)
	}
}

func TestHasSubnet(t *testing.T) {
	with := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/24"}}
	for _, c := range []struct {
		kind   watch.EventType
		object runtime.Object
		want   bool
	}{
		{watch.Added, &corev1.Node{}, false},
		{watch.Added, with, true},
		{watch.Modified, with, true},
		{watch.Deleted, with, false},
		{watch.Added, &corev1.Pod{}, false},
	} {
		if got, err := hasSubnet(watch.Event{Type: c.kind, Object: c.object}); err != nil || got != c.want {
			t.Errorf("%s %T: %t (%v), want %t", c.kind, c.object, got, err, c.want)
		}
	}
}

func TestCommandNeedsItsFlags(t *testing.T) {
	command := NewCommand()
	command.SetArgs([]string{"--node-name=x"})
	command.SetErr(io.Discard)
	if err := command.Execute(); err == nil {
		t.Error("started without its files")
	}
}
