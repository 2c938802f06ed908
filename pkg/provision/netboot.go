package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/keelson-os/keelson/pkg/netboot"
	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// netbootPort is the name of the boot server on the cluster's network.
const netbootPort = "netboot"

// netbootMAC is locally administered, as the gateway's.
var netbootMAC = net.HardwareAddr{0x52, 0x55, 0, 0, 0, 2}

// httpPort is where the boot server serves HTTP.
const httpPort = 80

// bootServer is the operator's computer of a cluster whose machines boot over the
// network: it runs what osctl netboot serve runs.
type bootServer struct {
	station *vnet.Station
	image   *netboot.Image
	server  *netboot.Server
	sockets netboot.Sockets
}

// newBootServer plugs a boot server into the switch; nil if the machines do not
// boot over the network.
func newBootServer(dir string, s spec, sw *vnet.Switch, log *slog.Logger) (_ *bootServer, err error) {
	if s.Boot.network() == "" {
		return nil, nil
	}
	b := &bootServer{}
	if b.image, err = netboot.OpenImage(filepath.Join(s.Artifacts, netbootFile)); err != nil {
		return nil, err
	}
	address := netip.PrefixFrom(s.gateway().Next(), s.Subnet.Bits())
	if b.station, err = vnet.NewStation(sw, netbootPort, netbootMAC, address); err != nil {
		return nil, errors.Join(err, b.image.Close())
	}
	b.server, err = netboot.New(netboot.Options{
		Image: b.image, Address: netip.AddrPortFrom(address.Addr(), httpPort), Any: true, Once: true, Log: log,
		Config: func(mac net.HardwareAddr) ([]byte, error) { return configOf(dir, s.Nodes, mac) },
	})
	if err == nil {
		err = b.listen()
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("make the boot server: %w", err)
	}
	return b, nil
}

func (b *bootServer) listen() error {
	var errs [4]error
	b.sockets.HTTP, errs[0] = b.station.ListenTCP(httpPort)
	b.sockets.DHCP, errs[1] = b.station.ListenBroadcast(netboot.DHCPPort)
	b.sockets.PXE, errs[2] = b.station.ListenUDP(netboot.PXEPort)
	b.sockets.TFTP, errs[3] = b.station.ListenUDP(netboot.TFTPPort)
	return errors.Join(errs[:]...)
}

func (b *bootServer) close() {
	b.station.Close()
	b.image.Close()
}

func (b *bootServer) run(ctx context.Context) error {
	defer b.image.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.station.Run(ctx) })
	group.Go(func() error { return b.server.Run(ctx, b.sockets) })
	return group.Wait()
}

// configOf is the config of the node with a MAC address; fs.ErrNotExist if there is
// none. Whether it has one the specification tells too late.
func configOf(dir string, nodes []nodeSpec, mac net.HardwareAddr) ([]byte, error) {
	for _, n := range nodes {
		if own, err := net.ParseMAC(n.MAC); err == nil && bytes.Equal(own, mac) {
			return os.ReadFile(filepath.Join(dir, nodesDir, n.Name, nodeConfig))
		}
	}
	return nil, fs.ErrNotExist
}
