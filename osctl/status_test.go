package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/machine"
)

func TestStatus(t *testing.T) {
	harness, node := newMachineHarness(t)
	harness.golden(t, "status.txt", "status")
	node.status = &machine.StatusResponse{
		Stage: machine.StatusResponse_STAGE_MAINTENANCE, Phase: "config",
		Problems: []string{"fw_cfg:4:1: machine: unknown field \"hostnam\"\nfw_cfg:5:1: another", "second"},
	}
	node.statsErr = status.Error(codes.FailedPrecondition, "broken")
	harness.golden(t, "status-maintenance.txt", "status")
	node.status.Stage = machine.StatusResponse_STAGE_BOOTING
	harness.fails(t, exitError, []string{"broken"}, "status")
}
