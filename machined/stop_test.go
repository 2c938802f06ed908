package main

import (
	"errors"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/logind"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/machineconfig"
)

func TestStopIsAcceptedOnce(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	if err := n.RequestStop(t.Context(), api.Stop{Kind: api.StopReboot, By: "eve"}); err != nil {
		t.Fatal(err)
	}
	again := api.Stop{Kind: api.StopShutdown, By: "bob"}
	if err := n.RequestStop(t.Context(), again); err == nil {
		t.Error("a second request was accepted")
	}
	n.setStage(running) // the boot ends in the same moment
	if stage := n.Status().GetStage(); stage != machine.StatusResponse_STAGE_STOPPING {
		t.Errorf("stage %s", stage)
	}
	request := <-n.stops
	patient, cancel := n.whilePatient(t.Context())
	defer cancel()
	for _, kind := range []api.StopKind{api.StopShutdown, api.StopReset} {
		again.Kind, again.Force = kind, true
		if err := n.RequestStop(t.Context(), again); !errors.Is(err, errStopping) {
			t.Errorf("a %s was accepted while the node goes down: %v", kind, err)
		}
	}
	if request.By != "eve" || patient.Err() != nil {
		t.Errorf("request %+v, %v", request, patient.Err())
	}
	// The same once more, but at once.
	if err := n.RequestStop(t.Context(), api.Stop{Kind: api.StopReboot, Force: true}); err != nil {
		t.Error(err)
	}
	select {
	case <-patient.Done():
	case <-time.After(30 * time.Second):
		t.Error("it does not hurry")
	}
}

func TestKexecNeedsAnInstalledNode(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	if err := n.RequestStop(t.Context(), api.Stop{Kind: api.StopReboot, Kexec: true}); !errors.Is(err, errNoKexec) || n.Status().GetStage() == stopping {
		t.Errorf("stage %s: %v", n.Status().GetStage(), err)
	}
	if mode := (stopRequest{api.Stop{Kind: api.StopReboot, Kexec: true}}).mode(); mode != host.Kexec {
		t.Errorf("mode %s", mode)
	}
}

func TestWhatFollowsTheWayDown(t *testing.T) {
	for kind, want := range map[api.StopKind]host.RebootMode{
		api.StopReboot: host.Restart, api.StopShutdown: host.PowerOff, api.StopReset: host.Restart,
	} {
		request := stopRequest{api.Stop{Kind: kind}}
		if request.mode() != want || request.sequence().name != string(kind) {
			t.Errorf("%s: %s by the %s sequence", kind, request.mode(), request.sequence().name)
		}
	}
}

func TestTimesOfTheWayDown(t *testing.T) {
	config := machineconfig.Default()
	config.Machine.Kubelet.DrainTimeout, config.Machine.Kubelet.ShutdownGracePeriod = 24*time.Hour, time.Hour
	none := machineconfig.Default()
	none.Machine.Kubelet.DrainTimeout, none.Machine.Kubelet.ShutdownGracePeriod = 0, 0
	for name, c := range map[string]struct {
		stop       api.Stop
		config     *machineconfig.Config
		drain, end time.Duration
	}{
		"as configured":     {api.Stop{}, config, 24 * time.Hour, time.Hour + endMargin},
		"by the button":     {api.Stop{DrainWithin: buttonDrain}, config, buttonDrain, time.Hour + endMargin},
		"forced":            {api.Stop{Force: true}, config, 0, 0},
		"without a config":  {api.Stop{}, nil, 0, 0},
		"configured away":   {api.Stop{}, none, 0, 0},
		"button, no drains": {api.Stop{DrainWithin: buttonDrain}, none, 0, 0},
	} {
		request := stopRequest{c.stop}
		drain, end := request.drainTime(c.config), request.endTime(c.config)
		if drain != c.drain || end != c.end {
			t.Errorf("%s: drain for %s, end in %s", name, drain, end)
		}
		if got, least := request.deadline(c.config), drain+end+shutdownDeadline; got < least {
			t.Errorf("%s: all of it within %s, but it may take %s", name, got, least)
		}
	}
	// What the disk needs at the end must be left when all before it took its time.
	for kind, table := range map[api.StopKind]sequence{api.StopReboot: rebootSequence, api.StopReset: resetSequence} {
		var all time.Duration
		for _, p := range table.phases {
			var longest time.Duration
			for _, task := range p.tasks {
				longest = max(longest, task.deadline)
			}
			if p.name != "drain" && p.name != "pods" {
				all += longest
			}
		}
		for overwrite, longer := range map[bool]time.Duration{true: 0, false: overwriteTime - wipeTime} {
			if kind != api.StopReset {
				longer = 0 // it wipes nothing
			}
			if got := (stopRequest{api.Stop{Kind: kind, Force: true, Overwrite: overwrite}}).deadline(nil); got < all-longer {
				t.Errorf("%s, overwriting %t: all of it within %s, but its phases may take %s", kind, overwrite, got, all-longer)
			}
		}
	}
	// The table's own deadlines must not cut what a config may ask for.
	for _, p := range handOverPhases {
		longest := map[string]time.Duration{"drain": 24 * time.Hour, "pods": time.Hour + endMargin}[p.name]
		for _, task := range p.tasks {
			if task.deadline < longest {
				t.Errorf("%s: %s of %s", p.name, task.deadline, longest)
			}
		}
	}
}

func TestANodeThatNeverCameUpGoesDownWithoutWaiting(t *testing.T) {
	n := testNode(t)
	defer n.console.close()
	n.stop = stopRequest{api.Stop{Kind: api.StopReset}}
	for _, p := range handOverPhases {
		for _, task := range p.tasks {
			if err := task.run(n, t.Context()); err != nil {
				t.Errorf("%s: %v", task.name, err)
			}
		}
	}
	if err := n.RequestStop(t.Context(), api.Stop{Kind: api.StopReset}); err == nil || n.Status().GetStage() == stopping {
		t.Errorf("a node without a config was reset: %v", err)
	}
}

func TestKubeletFindsLogind(t *testing.T) {
	if kubernetes.ShutdownBus != logind.Socket {
		t.Errorf("kubelet looks for %s, logind is at %s", kubernetes.ShutdownBus, logind.Socket)
	}
}
