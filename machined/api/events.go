package api

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/api/machine"
)

// Limits of what is kept: a boot makes some hundred events of 100 bytes.
const (
	maxEvents     = 4096
	maxEventBytes = 1 << 20
	// maxEventMessage cuts a message that quotes too much of what went wrong.
	maxEventMessage = 2048
)

// Kinds of events.
const (
	KindPhase   = "phase"
	KindService = "service"
	KindConfig  = "config"
	KindMachine = "machine"
	KindAccess  = "access"
)

// Events keeps what happened on the node and hands it to those who follow. A
// publisher never waits for them.
type Events struct {
	ring      *supervise.Ring[*machine.Event]
	sinceBoot func() time.Duration
}

// NewEvents makes an empty history. sinceBoot is the time since kernel start.
func NewEvents(sinceBoot func() time.Duration) *Events {
	size := func(event *machine.Event) int { return proto.Size(event) }
	return &Events{ring: supervise.NewRing(maxEvents, maxEventBytes, size), sinceBoot: sinceBoot}
}

// Publish adds an event.
func (e *Events) Publish(kind, subject, action, message string) {
	if len(message) > maxEventMessage {
		message = message[:maxEventMessage] + "…"
	}
	message = text(message)
	e.ring.Append(func(sequence uint64) *machine.Event {
		return &machine.Event{
			Sequence: sequence, Time: timestamppb.Now(), SinceBoot: durationpb.New(e.sinceBoot()),
			Kind: kind, Subject: subject, Action: action, Message: message,
		}
	})
}

// text makes a message fit for protobuf, which refuses a whole answer for one
// byte of what some program printed.
func text(message string) string { return strings.ToValidUTF8(message, "\uFFFD") }

// Reached publishes a milestone of the boot: "init", "api", "etcd", …
func (e *Events) Reached(milestone, message string) {
	e.Publish(KindMachine, milestone, "reached", message)
}

// Close ends those who follow, after the last event.
func (e *Events) Close() { e.ring.Close() }

// Read sends the newest tail events (0: all), and with follow those to come. A
// reader that is too slow sees a hole in the sequence numbers.
func (e *Events) Read(ctx context.Context, tail int, follow bool, send func(*machine.Event) error) error {
	if tail == 0 {
		tail = -1
	}
	reader := e.ring.Reader(tail)
	for {
		event, _, err := reader.Next(ctx, follow)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(event); err != nil {
			return err
		}
	}
}
