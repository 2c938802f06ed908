package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
)

// Ports of a node that the host gets a forward to.
const (
	apiPort        = 50000
	kubernetesPort = 6443
)

// nodeForwards are the addresses on the host that lead to one node's APIs.
type nodeForwards struct {
	API        netip.AddrPort `json:"api"`
	Kubernetes netip.AddrPort `json:"kubernetes"`
}

// forward is one listener and where its connections go.
type forward struct {
	listener net.Listener
	to       netip.AddrPort
}

// readForwards returns the forwards by node name; none if the network never ran.
func readForwards(dir string) (map[string]nodeForwards, error) {
	forwards := map[string]nodeForwards{}
	err := readJSON(filepath.Join(dir, forwardsFile), &forwards)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return forwards, err
}

// listenForwards listens on the host for every node. For a new node it takes
// free ports and writes them down; from then on they stay, because users have them in their configs.
func listenForwards(dir string, nodes []nodeSpec) (listening []forward, err error) {
	defer func() {
		if err != nil {
			closeForwards(listening)
		}
	}()
	recorded, err := readForwards(dir)
	if err != nil {
		return nil, err
	}
	forwards := map[string]nodeForwards{}
	for _, n := range nodes {
		f := recorded[n.Name]
		for port, at := range map[uint16]*netip.AddrPort{apiPort: &f.API, kubernetesPort: &f.Kubernetes} {
			listener, err := listenForward(at)
			if err != nil {
				return listening, fmt.Errorf("forward to port %d of node %s: %w", port, n.Name, err)
			}
			listening = append(listening, forward{listener, netip.AddrPortFrom(n.IP, port)})
		}
		forwards[n.Name] = f
	}
	if maps.Equal(recorded, forwards) {
		return listening, nil
	}
	return listening, writeJSON(filepath.Join(dir, forwardsFile), forwards)
}

// listenForward listens on an address, or on any free port if it is not valid
// yet, and leaves the address there.
func listenForward(at *netip.AddrPort) (net.Listener, error) {
	if !at.IsValid() {
		*at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	listener, err := net.Listen("tcp4", at.String())
	if err != nil {
		return nil, err
	}
	*at = listener.Addr().(*net.TCPAddr).AddrPort()
	return listener, nil
}

func closeForwards(forwards []forward) {
	for _, f := range forwards {
		f.listener.Close()
	}
}
