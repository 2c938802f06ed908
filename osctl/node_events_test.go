package main

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func TestEvents(t *testing.T) {
	harness, node := newMachineHarness(t)
	node.events = []*machine.Event{
		{Sequence: 1, SinceBoot: durationpb.New(1234 * time.Millisecond), Kind: "phase", Subject: "storage", Action: "started"},
		{Sequence: 2, SinceBoot: durationpb.New(62 * time.Second), Kind: "service", Subject: "kube-controller-manager", Action: "exited", Message: "exit status 1"},
	}
	harness.golden(t, "events.txt", "node-events")
	harness.golden(t, "events.json", "node-events", "-o", "json")
	harness.golden(t, "events.yaml", "node-events", "-o", "yaml")
}
