package main

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/pkg/api/log"
)

// fakeLog is a kernel that said three things.
type fakeLog struct {
	log.UnimplementedLogServiceServer
}

func (fakeLog) Kernel(_ *log.KernelRequest, stream log.LogService_KernelServer) error {
	for i, message := range []string{"Linux version 6.12", "warned", "failed"} {
		line := &log.KernelResponse{SinceBoot: durationpb.New(time.Duration(i) * 1500 * time.Microsecond), Priority: uint32(6 - i), Message: message}
		if err := stream.Send(line); err != nil {
			return err
		}
	}
	return nil
}

func TestDmesg(t *testing.T) {
	harness := newHarness(t, func(server *grpc.Server) { log.RegisterLogServiceServer(server, fakeLog{}) })
	harness.golden(t, "dmesg.txt", "dmesg")
	harness.golden(t, "dmesg.json", "dmesg", "-o", "json")
	harness.golden(t, "dmesg.yaml", "dmesg", "-o", "yaml")
}
