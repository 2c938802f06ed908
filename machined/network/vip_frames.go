package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	icmpNeighbourAdvertisement = 136
	optionTargetLinkAddress    = 2
	overrideFlag               = 1 << 5 // of the first byte of the flags
	icmpProtocol               = 58
	maxHops                    = 255 // routers would count it down: neighbours only
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	// allNodes is every IPv6 node of the link, and the frames' address for it.
	allNodes      = netip.MustParseAddr("ff02::1")
	allNodesFrame = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

// announcement is an Ethernet frame that tells all neighbours of an address at
// card, and the hardware address it is sent to.
func announcement(card net.HardwareAddr, address netip.Addr) (frame []byte, to net.HardwareAddr) {
	if address.Is4() {
		return slices.Concat(broadcast, card, ethertype(unix.ETH_P_ARP), arpAnnouncement(card, address)), broadcast
	}
	return slices.Concat(allNodesFrame, card, ethertype(unix.ETH_P_IPV6), neighbourAdvertisement(card, address)), allNodesFrame
}

func ethertype(number uint16) []byte { return binary.BigEndian.AppendUint16(nil, number) }

// arpAnnouncement is a request that asks for the sender's own address (RFC 5227,
// section 3): every neighbour brings its table up to date by it.
func arpAnnouncement(card net.HardwareAddr, address netip.Addr) []byte {
	const ethernet, request = 1, 1
	packet := binary.BigEndian.AppendUint16(nil, ethernet)
	packet = binary.BigEndian.AppendUint16(packet, unix.ETH_P_IP)
	packet = append(packet, byte(len(card)), 4)
	packet = binary.BigEndian.AppendUint16(packet, request)
	packet = append(packet, card...)
	packet = append(packet, address.AsSlice()...)
	packet = append(packet, make([]byte, len(card))...)
	return append(packet, address.AsSlice()...)
}

// neighbourAdvertisement is an IPv6 packet with an unsolicited advertisement
// that overrides what neighbours have (RFC 4861, section 7.2.6).
func neighbourAdvertisement(card net.HardwareAddr, address netip.Addr) []byte {
	message := []byte{icmpNeighbourAdvertisement, 0, 0, 0, overrideFlag, 0, 0, 0}
	message = append(message, address.AsSlice()...)
	message = append(message, optionTargetLinkAddress, 1) // of eight bytes
	message = append(message, card...)
	binary.BigEndian.PutUint16(message[2:], icmpChecksum(address, allNodes, message))

	packet := []byte{6 << 4, 0, 0, 0}
	packet = binary.BigEndian.AppendUint16(packet, uint16(len(message)))
	packet = append(packet, icmpProtocol, maxHops)
	packet = append(packet, address.AsSlice()...)
	packet = append(packet, allNodes.AsSlice()...)
	return append(packet, message...)
}

// icmpChecksum is that of a message, whose own checksum is zero, between two
// addresses (RFC 4443, section 2.3).
func icmpChecksum(from, to netip.Addr, message []byte) uint16 {
	head := slices.Concat(from.AsSlice(), to.AsSlice())
	head = binary.BigEndian.AppendUint32(head, uint32(len(message)))
	head = append(head, 0, 0, 0, icmpProtocol)
	var sum uint32
	for _, part := range [][]byte{head, message} { // both of even length
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
