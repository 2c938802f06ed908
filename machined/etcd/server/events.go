package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
)

// maxEvents bounds what is remembered.
const maxEvents = 64

// events are what happened to members without anybody asking for it.
type events struct {
	mu   sync.Mutex
	list []*etcdapi.Event
}

func (e *events) add(message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == maxEvents {
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, &etcdapi.Event{Time: timestamppb.New(time.Now()), Message: message})
}

// note remembers and logs what happened.
func (a *admin) note(format string, values ...any) {
	message := fmt.Sprintf(format, values...)
	a.log.Info(message)
	a.events.add(message)
}

// all returns them, newest last.
func (e *events) all() []*etcdapi.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}
