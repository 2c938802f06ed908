package vnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Frame sizes in bytes. The largest is QEMU's NET_BUFSIZE (include/net/net.h):
// it never sends more in one frame.
const (
	minFrame = 14
	maxFrame = 4096 + 65536
)

// maxAddresses bounds the forwarding table, so that a guest that makes up
// source addresses cannot grow it. Frames to addresses beyond it are flooded.
const maxAddresses = 4096

// Switch is a learning Ethernet switch between named ports. It floods
// broadcast, multicast and unknown unicast frames, and applies fault rules.
// No call waits for a port: each port has a bounded queue of its own.
type Switch struct {
	mu     sync.RWMutex
	ports  map[string]*Port
	table  map[hardwareAddr]*Port
	faults map[direction]Fault
}

type hardwareAddr [6]byte

// isGroup tells a broadcast or multicast address.
func (a hardwareAddr) isGroup() bool { return a[0]&1 == 1 }

// direction is an ordered pair of port names.
type direction struct{ from, to string }

// NewSwitch returns a switch without ports.
func NewSwitch() *Switch {
	return &Switch{
		ports:  make(map[string]*Port),
		table:  make(map[hardwareAddr]*Port),
		faults: make(map[direction]Fault),
	}
}

// Attach adds a port. A name can be attached once at a time.
func (s *Switch) Attach(name string) (*Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.ports[name]; taken {
		return nil, fmt.Errorf("switch port %s is already attached", name)
	}
	p := &Port{name: name, sw: s, queue: newQueue()}
	s.ports[name] = p
	return p, nil
}

func (s *Switch) detach(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports[p.name] == p {
		delete(s.ports, p.name)
	}
	for addr, q := range s.table {
		if q == p {
			delete(s.table, addr)
		}
	}
}

// PortStatus is what the switch knows of one port.
type PortStatus struct {
	Name string `json:"name"`
	// Dropped counts frames lost because the port's queue was full.
	Dropped uint64 `json:"dropped"`
}

// Ports lists the attached ports by name.
func (s *Switch) Ports() []PortStatus {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]PortStatus, 0, len(s.ports))
	for _, p := range s.ports {
		list = append(list, PortStatus{Name: p.name, Dropped: p.queue.drops()})
	}
	slices.SortFunc(list, func(a, b PortStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// deliver takes a frame that came in on port from and queues it wherever it
// has to go. The frame is shared between ports from here on: nobody writes to it.
func (s *Switch) deliver(from *Port, frame []byte) {
	dst, src := hardwareAddr(frame[0:6]), hardwareAddr(frame[6:12])
	s.learn(src, from)

	s.mu.RLock()
	defer s.mu.RUnlock()
	now := time.Now()
	if to := s.table[dst]; to != nil && !dst.isGroup() {
		if to != from {
			s.pass(from, to, frame, now)
		}
		return
	}
	for _, to := range s.ports {
		if to != from {
			s.pass(from, to, frame, now)
		}
	}
}

// learn notes which port an address was last seen on. An address may move:
// that is how a virtual IP changes its node.
func (s *Switch) learn(src hardwareAddr, from *Port) {
	if src.isGroup() {
		return
	}
	s.mu.RLock()
	known := s.table[src] == from
	s.mu.RUnlock()
	if known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	attached := s.ports[from.name] == from
	if _, moved := s.table[src]; attached && (moved || len(s.table) < maxAddresses) {
		s.table[src] = from
	}
}

// pass queues the frame at one port unless a fault rule eats it.
func (s *Switch) pass(from, to *Port, frame []byte, now time.Time) {
	fault := s.fault(from.name, to.name)
	if fault.Cut || (fault.DropPercent > 0 && rand.Float64()*100 < fault.DropPercent) {
		return
	}
	to.queue.push(frame, now.Add(fault.Delay))
}
