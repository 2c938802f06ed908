package vnet

import "context"

// Port is one plug of a switch.
type Port struct {
	name  string
	sw    *Switch
	queue *queue
}

// Send hands a frame to the switch, which keeps it: the caller must not write
// to it afterwards. Frames too short to hold an Ethernet header, or longer
// than any NIC sends, are ignored. Send never waits.
func (p *Port) Send(frame []byte) {
	if len(frame) < minFrame || len(frame) > maxFrame {
		return
	}
	p.sw.deliver(p, frame)
}

// Receive waits for the next frame that leaves the switch on this port. The
// frame may be shared with other ports: the caller must not write to it. Only
// one goroutine may call it.
func (p *Port) Receive(ctx context.Context) ([]byte, error) {
	return p.queue.pop(ctx)
}

// Detach unplugs the port; frames still queued for it are gone.
func (p *Port) Detach() { p.sw.detach(p) }
