package vnet

import (
	"context"
	"net"
	"net/netip"
)

// Station is a computer on the virtual network that is this program: what is
// served there, guests reach.
type Station struct{ host *host }

// NewStation plugs a station into the switch under a name for fault rules. It
// passes no frames until Run is called; if it is not, Close must be.
func NewStation(sw *Switch, name string, mac net.HardwareAddr, addr netip.Prefix) (*Station, error) {
	h, err := newHost(sw, name, mac, addr)
	if err != nil {
		return nil, err
	}
	return &Station{h}, nil
}

// Run works until ctx ends, then closes the station.
func (s *Station) Run(ctx context.Context) error {
	defer s.Close()
	return s.host.run(ctx, func([]byte) bool { return true })
}

// Close unplugs the station.
func (s *Station) Close() { s.host.close() }

// ListenTCP listens for connections to a port.
func (s *Station) ListenTCP(port uint16) (net.Listener, error) { return s.host.listenTCP(port) }

// ListenUDP listens for what is sent to a port of the station.
func (s *Station) ListenUDP(port uint16) (net.PacketConn, error) { return s.host.listenUDP(port) }

// ListenBroadcast listens for what is sent to a port, broadcasts included, and may
// send broadcasts.
func (s *Station) ListenBroadcast(port uint16) (net.PacketConn, error) {
	return s.host.listenBroadcast(port)
}
