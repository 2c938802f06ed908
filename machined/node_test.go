package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

var _ api.Node = (*node)(nil)

func TestServiceChangesBecomeEventsAndMilestones(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	changed := n.serviceChanged()
	for _, now := range []supervise.Status{
		{Name: "apid", State: supervise.Starting},
		{Name: "apid", State: supervise.Starting, Message: "another message"},
		{Name: "apid", State: supervise.Running, Health: supervise.Healthy},
		{Name: "apid", State: supervise.Backoff, Message: "exited"},
		{Name: "apid", State: supervise.Running, Health: supervise.Healthy},
	} {
		changed(now)
	}
	want := []string{"service apid starting", "service apid running", "machine api reached", "service apid backoff", "service apid running"}
	if diff := cmp.Diff(want, history(t, n)); diff != "" {
		t.Error(diff)
	}
}

// history is the node's events so far, without their messages.
func history(t *testing.T, n *node) []string {
	t.Helper()
	var lines []string
	err := n.events.Read(t.Context(), 0, false, func(event *machine.Event) error {
		lines = append(lines, event.GetKind()+" "+event.GetSubject()+" "+event.GetAction())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestProblemsAreOneMessageEachUntilSolved(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	n.problem("storage", errors.New("no disk"))
	n.problem("config", errors.Join(errors.New("a:3:1: x"), errors.New("a:2:1: y")))
	if diff := cmp.Diff([]string{"config: a:3:1: x", "config: a:2:1: y", "storage: no disk"}, n.Status().GetProblems()); diff != "" {
		t.Error(diff)
	}
	n.solved("config")
	if diff := cmp.Diff([]string{"storage: no disk"}, n.Status().GetProblems()); diff != "" {
		t.Error(diff)
	}
}

func TestNodeReadyIsReachedOnce(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	changed := n.nodeChanged()
	for _, now := range []kubernetes.Node{{Registered: true}, {Registered: true, Ready: true}, {}, {Registered: true, Ready: true}} {
		changed(now)
	}
	want := []string{"machine node not ready", "machine node Ready reached", "machine node not ready", "machine node ready"}
	if diff := cmp.Diff(want, history(t, n)); diff != "" {
		t.Error(diff)
	}
}

func TestServiceCheck(t *testing.T) {
	fine := supervise.Status{Name: "apid", State: supervise.Running, Health: supervise.Healthy}
	if check := serviceCheck([]supervise.Status{fine}); !check.OK || check.Message != "1 healthy" {
		t.Errorf("check %+v", check)
	}
	waiting := supervise.Status{Name: "etcd", State: supervise.Waiting, Message: "run osctl bootstrap"}
	if check := serviceCheck([]supervise.Status{fine, waiting}); check.OK || check.Message != "etcd is waiting: run osctl bootstrap" {
		t.Errorf("check %+v", check)
	}
	dependent := supervise.Status{Name: "kube-apiserver", State: supervise.Waiting, DependsOn: []string{"etcd"}, Message: "waiting for etcd (waiting)"}
	want := "etcd is waiting: run osctl bootstrap; kube-apiserver waiting for these"
	if check := serviceCheck([]supervise.Status{fine, waiting, dependent}); check.OK || check.Message != want {
		t.Errorf("check %+v, want %q", check, want)
	}
}

func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		available uint64
		want      bool
	}{{0, true}, {29, true}, {30, false}, {1000, false}} {
		if got := isFull(host.Disk{Total: 1000, Available: c.available}); got != c.want {
			t.Errorf("%d of 1000 left: full is %t", c.available, got)
		}
	}
}

func TestInvitation(t *testing.T) {
	text := invitation("This node is in maintenance: it has no usable config.", []string{"config: FILE:3:5: machine.type: wrong", "config: FILE:4:1: machine.x: unknown"},
		[]netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}, []string{"/dev/vda (8192 MiB, virtio): nothing"},
		&api.Maintenance{Fingerprint: "ab12", PairingCode: "abcd-efgh"})
	want := `
This node is in maintenance: it has no usable config.
  config: FILE:3:5: machine.type: wrong
  config: FILE:4:1: machine.x: unknown
API:          10.0.0.5:50000
Disk:         /dev/vda (8192 MiB, virtio): nothing
Fingerprint:  ab12
Pairing code: abcd-efgh

`
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
}

func TestAddressesOf(t *testing.T) {
	got := addressesOf([]netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}, &machineconfig.Cluster{
		ControlPlane: machineconfig.ControlPlanes{Addresses: []machineconfig.Host{"10.0.0.5", "10.0.0.2"}},
	})
	var texts []string
	for _, address := range got {
		texts = append(texts, address.String())
	}
	if joined := strings.Join(texts, " "); joined != "10.0.0.2 10.0.0.5" {
		t.Errorf("addresses %s", joined)
	}
}

// The disk does not wait for a kernel without some module, but everybody is told.
func TestMissingContainerModulesAreAProblemAndNoFailure(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	modules, err := host.ReadModules(fstest.MapFS{"lib/modules/6/modules.dep": {}}, "lib/modules/6")
	if err != nil {
		t.Fatal(err)
	}
	n.modules = modules
	if err := n.loadContainerModules(t.Context()); err != nil {
		t.Error(err)
	}
	if problems := strings.Join(n.Status().GetProblems(), "; "); !strings.Contains(problems, "container modules: module overlay") {
		t.Errorf("problems %q", problems)
	}
}
