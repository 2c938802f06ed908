package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/client"
)

// listenTimeout is how long a node may take to be heard before it is told to go
// down all the same, and to be silent after it did.
const listenTimeout = 10 * time.Second

// wayDown shows what a node does on its way down, as long as it can be heard.
type wayDown struct {
	app    *app
	cancel context.CancelFunc
	ended  chan struct{}

	// The last phase that failed and why, once the node is not heard any more.
	failed, reason string
}

// watchWayDown begins to listen, before the node is told to go down. A node that
// cannot be heard goes down as well.
func (app *app) watchWayDown(ctx context.Context, node *client.Client) *wayDown {
	ctx, cancel := context.WithCancel(ctx)
	watch := &wayDown{app: app, cancel: cancel, ended: make(chan struct{})}
	open := make(chan struct{})
	go func() {
		defer close(watch.ended)
		// The newest event only tells that the stream is open.
		stream, err := node.Machine.Events(ctx, &machine.EventsRequest{Follow: true, Tail: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		close(open)
		for err == nil { // until it is down, or so far that its API is
			var event *machine.Event
			if event, err = stream.Recv(); err == nil {
				watch.show(event)
			}
		}
	}()
	select {
	case <-open:
	case <-time.After(listenTimeout):
	}
	return watch
}

// end stops to listen.
func (watch *wayDown) end() {
	watch.cancel()
	<-watch.ended
}

// hearOut listens to the end of a node that went down.
func (watch *wayDown) hearOut() {
	select {
	case <-watch.ended:
	case <-time.After(listenTimeout): // the connection's end is not known yet
	}
	watch.end()
}

func (watch *wayDown) show(event *machine.Event) {
	if event.GetKind() == "phase" && event.GetAction() == "failed" {
		watch.failed, watch.reason = event.GetSubject(), event.GetMessage()
	}
	if line := wayDownLine(event); line != "" {
		fmt.Fprintln(watch.app.stderr, line)
	}
}

// wayDownPhases are what the phases of the way down mean.
var wayDownPhases = map[string]string{
	"drain":      "moving its pods to other nodes",
	"leadership": "handing over what it leads",
	"pods":       "ending the pods that are left",
	"cluster":    "leaving the cluster",
	"services":   "stopping its services",
}

// wayDownLine is an event of the way down in a line; empty for other events.
func wayDownLine(event *machine.Event) string {
	switch {
	case event.GetKind() == "phase" && event.GetAction() == "started":
		return wayDownPhases[event.GetSubject()]
	case event.GetKind() == "phase" && event.GetAction() == "failed":
		return fmt.Sprintf("%s: %s", event.GetSubject(), event.GetMessage())
	case event.GetKind() == "machine" && event.GetSubject() == "drain":
		return "  " + event.GetMessage()
	case event.GetKind() == "machine" && event.GetAction() == "handed over":
		return fmt.Sprintf("  %s: %s", event.GetSubject(), event.GetMessage())
	}
	return ""
}

// wasFormatted tells whether the node made its file systems anew since it
// started.
func wasFormatted(ctx context.Context, node *client.Client) (bool, error) {
	stream, err := node.Machine.Events(ctx, &machine.EventsRequest{})
	if err != nil {
		return false, err
	}
	formatted := false
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return formatted, nil
		}
		if err != nil {
			return false, err
		}
		formatted = formatted || event.GetSubject() == "disk" && event.GetAction() == "formatted"
	}
}

// hasRebooted tells whether the kernel that answers started after asked and its
// boot sequence is done.
func (app *app) hasRebooted(ctx context.Context, node *client.Client, asked time.Time) (bool, error) {
	stats, err := node.Machine.Stats(ctx, &machine.StatsRequest{})
	if err != nil || app.now().Add(-stats.GetUptime().AsDuration()).Before(asked) {
		return false, err
	}
	state, err := node.Machine.Status(ctx, &machine.StatusRequest{})
	return state.GetStage() == machine.StatusResponse_STAGE_RUNNING, err
}
