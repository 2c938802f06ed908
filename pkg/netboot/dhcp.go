package netboot

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// What clients of network boot call themselves in DHCP option 60, followed by
// more (Intel, Preboot Execution Environment 2.1; UEFI specification, HTTP Boot).
const (
	pxeClient  = "PXEClient"
	httpClient = "HTTPClient"
)

// ipxeClass is how iPXE calls itself in option 77.
const ipxeClass = "iPXE"

// Firmware is how a machine boots over the network.
type Firmware string

// The firmwares that there is something for.
const (
	// FirmwareHTTP is UEFI's own HTTP boot.
	FirmwareHTTP Firmware = "UEFI HTTP boot"
	// FirmwarePXE is UEFI's own PXE, by TFTP.
	FirmwarePXE Firmware = "UEFI PXE"
	// FirmwareIPXE is iPXE, from a network card's ROM or loaded before.
	FirmwareIPXE Firmware = "iPXE"
)

// clientArchs are what UEFI of an architecture, which is in Go's terms, calls
// itself in DHCP option 93.
var clientArchs = map[string]struct{ http, pxe []iana.Arch }{
	// Firmware of 64 bits that predates RFC 4578's errata says EFI_BC.
	"amd64": {http: []iana.Arch{iana.EFI_X86_64_HTTP}, pxe: []iana.Arch{iana.EFI_X86_64, iana.EFI_BC}},
	"arm64": {http: []iana.Arch{iana.EFI_ARM64_HTTP}, pxe: []iana.Arch{iana.EFI_ARM64}},
}

// firmwareOf tells how the sender of a request boots; "" if it is not about to
// boot over the network. known is false if it is, in a way that there is nothing
// for: legacy BIOS, and processors other than the image's.
func firmwareOf(request *dhcpv4.DHCPv4, arch string) (firmware Firmware, known bool) {
	own := clientArchs[arch]
	class := request.ClassIdentifier()
	archs := request.ClientArch()
	switch {
	case bytes.Contains(request.Options.Get(dhcpv4.OptionUserClassInformation), []byte(ipxeClass)):
		// An iPXE of BIOS loads a Linux kernel just as well, but there is no use in
		// it: what is installed needs UEFI.
		return FirmwareIPXE, len(archs) == 0 || anyOf(archs, own.http) || anyOf(archs, own.pxe)
	case strings.HasPrefix(class, httpClient):
		return FirmwareHTTP, anyOf(archs, own.http)
	case strings.HasPrefix(class, pxeClient):
		return FirmwarePXE, anyOf(archs, own.pxe)
	}
	return "", true
}

func anyOf(archs, wanted []iana.Arch) bool {
	return slices.ContainsFunc(archs, func(a iana.Arch) bool { return slices.Contains(wanted, a) })
}

// discoveryControl is the PXE vendor option that says: ask no other boot server,
// load the file that this answer names (PXE 2.1, PXE_DISCOVERY_CONTROL).
var discoveryControl = []byte{6, 1, 8, 255}

// answer says what to boot, and gives no address: that is left to the network's
// own DHCP server. It is nil if the request is not one to be answered.
func (s *Server) answer(request *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	var kind dhcpv4.MessageType
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		kind = dhcpv4.MessageTypeAck
	default:
		return nil, nil
	}
	firmware, known := firmwareOf(request, s.options.Image.Architecture())
	if firmware == "" {
		return nil, nil
	}
	if wanted, why := s.wanted(request.ClientHWAddr); !wanted {
		s.mention(request.ClientHWAddr, why)
		return nil, nil
	}
	log := s.options.Log.With("mac", request.ClientHWAddr.String(), "firmware", firmware)
	if !known {
		log.Warn("a machine asks for what there is no image for: only UEFI on "+s.options.Image.Architecture()+" is served", "architectures", request.ClientArch())
		return nil, nil
	}
	self := net.IP(s.options.Address.Addr().AsSlice())
	class, file := pxeClient, imageFile
	switch firmware {
	case FirmwareHTTP:
		class, file = httpClient, s.url(imageFile)
	case FirmwareIPXE:
		file = s.url(scriptFile)
	}
	reply, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithServerIP(self),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(self)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptBootFileName(file)),
	)
	if err != nil {
		return nil, err
	}
	reply.BootFileName = file
	if firmware != FirmwareHTTP {
		reply.UpdateOption(dhcpv4.OptTFTPServerName(self.String()))
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, discoveryControl))
	}
	if guid := request.Options.Get(dhcpv4.OptionClientMachineIdentifier); guid != nil {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, guid))
	}
	log.Info("a machine is told what to boot", "file", file)
	return reply, nil
}

// handleDHCP answers what came on the port of DHCP servers: clients there have no
// address yet. Requests there are for the server that gave the address.
func (s *Server) handleDHCP(conn net.PacketConn, _ net.Addr, request *dhcpv4.DHCPv4) {
	if request.MessageType() != dhcpv4.MessageTypeDiscover {
		return
	}
	s.send(conn, &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}, request)
}

// handlePXE answers what came on the port of PXE boot servers.
func (s *Server) handlePXE(conn net.PacketConn, peer net.Addr, request *dhcpv4.DHCPv4) {
	s.send(conn, peer, request)
}

func (s *Server) send(conn net.PacketConn, to net.Addr, request *dhcpv4.DHCPv4) {
	reply, err := s.answer(request)
	if err == nil && reply != nil {
		_, err = conn.WriteTo(reply.ToBytes(), to)
	}
	if err != nil {
		s.options.Log.Warn("a machine was not answered", "mac", request.ClientHWAddr.String(), "error", err)
	}
}

// The ports of DHCP servers, of PXE's boot servers (PXE 2.1) and of TFTP.
const (
	DHCPPort = dhcpv4.ServerPort
	PXEPort  = 4011
	TFTPPort = 69
)

// isUsable tells whether machines can be told of an address.
func isUsable(address netip.AddrPort) bool {
	return address.Addr().Is4() && !address.Addr().IsUnspecified() && address.Port() != 0
}
