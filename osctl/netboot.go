package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/netboot"
)

func (app *app) netbootCommand() *cobra.Command {
	return group("netboot", "Boot machines over the network", app.netbootServeCommand())
}

// netbootOptions are the flags of netboot serve.
type netbootOptions struct {
	card, image, configs string
	port                 uint16
	any, again           bool
}

func (app *app) netbootServeCommand() *cobra.Command {
	var options netbootOptions
	command := &cobra.Command{
		Use: "serve", Short: "Boot the machines of a network from this computer", Args: cobra.NoArgs,
		Long: `Boot the machines of a network from this computer, until it is interrupted.

The network's own DHCP server gives machines their addresses, as ever; this
command answers beside it and says what to boot: by UEFI's HTTP boot, by UEFI's
PXE, or by iPXE. It needs the ports 67, 69 and 4011 of UDP, so run it as root.

--configs names a folder of machine configs, each named after the MAC address of
its machine: 52-54-00-ab-cd-01.yaml, or with colons. A machine with a config
installs itself, tells when it is done, and is then left to boot from its disk; one
that is cut off before begins anew. To repair a machine's system (osctl install
--repair) boot it with --again, or with --any and no --configs.
Others are not answered, unless --any is given: they then wait in maintenance
mode for osctl install, and nothing is written to their disks.

Configs hold secrets, and are sent to whoever has the MAC address, unencrypted: do
this on a network that you trust, or use --any without --configs.`,
	}
	flags := command.Flags()
	flags.StringVar(&options.card, "interface", "", "this computer's network card that the machines are reached by (default: the only one)")
	flags.StringVar(&options.image, "image", "", "the image (default: keelson-netboot.efi in _out beside the folder of osctl, else in the current one)")
	flags.StringVar(&options.configs, "configs", "", "folder of the machine configs, by MAC address")
	flags.Uint16Var(&options.port, "port", 8080, "TCP port to serve HTTP on")
	flags.BoolVar(&options.any, "any", false, "also boot machines that there is no config for")
	flags.BoolVar(&options.again, "again", false, "boot machines that are installed, too, and hand their configs out again")
	command.RunE = func(command *cobra.Command, _ []string) error {
		options.image = cmp.Or(options.image, filepath.Join(defaultArtifacts(), "keelson-netboot.efi"))
		return app.netbootServe(command.Context(), options)
	}
	return command
}

func (app *app) netbootServe(ctx context.Context, options netbootOptions) error {
	if options.configs == "" && !options.any {
		return usagef("give --configs FOLDER, --any, or both: without them no machine would be booted")
	}
	card, address, err := networkCard(options.card)
	if err != nil {
		return err
	}
	image, err := netboot.OpenImage(options.image)
	if err != nil {
		return err
	}
	defer image.Close()
	serving := netboot.Options{
		Image: image, Address: netip.AddrPortFrom(address, options.port), Any: options.any, Once: !options.again,
		Log: slog.New(slog.NewTextHandler(app.stdout, &slog.HandlerOptions{ReplaceAttr: withoutLevel})),
	}
	if options.configs != "" {
		machines, err := checkConfigs(options.configs)
		if err != nil {
			return err
		}
		fmt.Fprintf(app.stdout, "machines with a config in %s: %d\n", options.configs, machines)
		serving.Config = func(mac net.HardwareAddr) ([]byte, error) { return configByMAC(options.configs, mac) }
	}
	if image.Signed() {
		app.warn("the image is signed, so that it stays as it is: machines find their configs only if it was built with -kernel-arg 'keelson.config=http://…/configs/${mac}'")
	}
	server, err := netboot.New(serving)
	if err != nil {
		return err
	}
	sockets, err := netbootSockets(card, serving.Address)
	if err != nil {
		return err
	}
	fmt.Fprintf(app.stdout, "machines on %s boot from %s; Ctrl-C ends this\n", card, serving.Address)
	return server.Run(ctx, sockets)
}

// withoutLevel leaves out of lines for people what they all have.
func withoutLevel(_ []string, a slog.Attr) slog.Attr {
	switch {
	case a.Key == slog.LevelKey && a.Value.Any() == slog.LevelInfo:
		return slog.Attr{}
	case a.Key == slog.TimeKey:
		return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05"))
	}
	return a
}

// networkCard finds a network card and its IPv4 address; "" is the only one that
// is up and has one.
func networkCard(name string) (string, netip.Addr, error) {
	cards, err := net.Interfaces()
	if err != nil {
		return "", netip.Addr{}, err
	}
	var found []string
	var address netip.Addr
	for _, card := range cards {
		up := card.Flags&net.FlagUp != 0 && card.Flags&net.FlagLoopback == 0
		if name != "" && card.Name != name || name == "" && !up {
			continue
		}
		addresses, err := card.Addrs()
		if err != nil {
			return "", netip.Addr{}, fmt.Errorf("ask for the addresses of %s: %w", card.Name, err)
		}
		for _, a := range addresses {
			prefix, ok := a.(*net.IPNet)
			if ok && prefix.IP.To4() != nil {
				address, _ = netip.AddrFromSlice(prefix.IP.To4())
				found = append(found, card.Name)
				break
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], address, nil
	case name != "":
		return "", netip.Addr{}, usagef("this computer has no network card %q with an IPv4 address", name)
	case len(found) == 0:
		return "", netip.Addr{}, errors.New("this computer has no network card with an IPv4 address")
	}
	return "", netip.Addr{}, usagef("this computer has several network cards; give one of %s as --interface", strings.Join(found, ", "))
}

// configNames are the names that a machine's config may have.
func configNames(mac net.HardwareAddr) []string {
	colons := mac.String()
	return []string{strings.ReplaceAll(colons, ":", "-") + ".yaml", colons + ".yaml"}
}

// configByMAC reads a machine's config; fs.ErrNotExist if there is none.
func configByMAC(folder string, mac net.HardwareAddr) ([]byte, error) {
	for _, name := range configNames(mac) {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return text, err
		}
	}
	return nil, fs.ErrNotExist
}

// checkConfigs reads all configs once: a machine that met a wrong one would stand
// still far from here.
func checkConfigs(folder string) (machines int, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0, err
	}
	var wrong []error
	for _, entry := range entries {
		base, ok := strings.CutSuffix(entry.Name(), ".yaml")
		if !ok {
			continue
		}
		path := filepath.Join(folder, entry.Name())
		mac, err := net.ParseMAC(base)
		if err != nil || !strings.EqualFold(base, mac.String()) && !strings.EqualFold(base, strings.ReplaceAll(mac.String(), ":", "-")) {
			wrong = append(wrong, fmt.Errorf("%s: the name is no MAC address; expected such as 52-54-00-ab-cd-01.yaml", path))
			continue
		}
		if base != strings.ToLower(base) {
			wrong = append(wrong, fmt.Errorf("%s: write the MAC address in lower case", path))
			continue
		}
		text, err := os.ReadFile(path)
		if err == nil {
			_, err = machineconfig.Decode(path, bytes.NewReader(text))
		}
		wrong = append(wrong, err)
		machines++
	}
	return machines, errors.Join(wrong...)
}

// netbootSockets opens the ports.
func netbootSockets(card string, address netip.AddrPort) (s netboot.Sockets, err error) {
	defer func() {
		if err == nil {
			return
		}
		if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			err = fmt.Errorf("%w: the ports of DHCP and TFTP are for root: run this through sudo", err)
		}
		for _, open := range []interface{ Close() error }{s.HTTP, s.DHCP, s.PXE, s.TFTP} {
			if open != nil {
				open.Close()
			}
		}
	}()
	if s.HTTP, err = net.Listen("tcp4", address.String()); err != nil {
		return s, err
	}
	udp := func(port uint16) (net.PacketConn, error) {
		return net.ListenPacket("udp4", netip.AddrPortFrom(address.Addr(), port).String())
	}
	if s.PXE, err = udp(netboot.PXEPort); err != nil {
		return s, err
	}
	if s.TFTP, err = udp(netboot.TFTPPort); err != nil {
		return s, err
	}
	dhcp, err := server4.NewIPv4UDPConn(card, &net.UDPAddr{Port: netboot.DHCPPort})
	if err != nil {
		return s, fmt.Errorf("listen for DHCP on %s: %w", card, err)
	}
	s.DHCP = dhcp
	return s, nil
}
