package planetest

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/wire"
)

// frameOf puts payload into Ethernet. It is not filled up to the shortest frame: who
// receives one may cut that off again.
func frameOf(to, from fabric.MAC, etherType uint16, payload []byte) []byte {
	return slices.Concat(to[:], from[:], binary.BigEndian.AppendUint16(nil, etherType), payload)
}

// packetOf puts payload into IPv4 or IPv6, after the family of from.
func packetOf(from, to netip.Addr, protocol byte, payload []byte) (etherType uint16, packet []byte) {
	const hops = 255
	if from.Is6() {
		packet = binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(payload)))
		return unix.ETH_P_IPV6, slices.Concat(packet, []byte{protocol, hops}, from.AsSlice(), to.AsSlice(), payload)
	}
	packet = binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(payload)))
	packet = slices.Concat(packet, []byte{0, 0, 0, 0, hops, protocol, 0, 0}, from.AsSlice(), to.AsSlice())
	binary.BigEndian.PutUint16(packet[10:], wire.Checksum(packet))
	return unix.ETH_P_IP, append(packet, payload...)
}

// ipFrame is an IP packet in Ethernet.
func ipFrame(toMAC, fromMAC fabric.MAC, from, to netip.Addr, protocol byte, payload []byte) []byte {
	etherType, packet := packetOf(from, to, protocol, payload)
	return frameOf(toMAC, fromMAC, etherType, packet)
}

// udpOf is a datagram without a checksum.
func udpOf(from, to uint16, words string) []byte {
	datagram := binary.BigEndian.AppendUint16(nil, from)
	datagram = binary.BigEndian.AppendUint16(datagram, to)
	datagram = binary.BigEndian.AppendUint16(datagram, uint16(8+len(words)))
	return append(append(datagram, 0, 0), words...)
}

// arpFrame is a broadcast of RFC 826.
func arpFrame(fromMAC fabric.MAC, operation byte, sender fabric.MAC, senderAddr, targetAddr netip.Addr) []byte {
	return frameOf(broadcast(), fromMAC, unix.ETH_P_ARP, slices.Concat(
		[]byte{0, 1, 8, 0, 6, 4, 0, operation}, sender[:], senderAddr.AsSlice(), make([]byte, 6), targetAddr.AsSlice()))
}

// Kinds of ICMPv6 messages, and options of neighbour discovery (RFC 4861 §4).
const (
	routerAdvertisement   = 134
	neighbourSolicitation = 135
	neighbourAdvert       = 136
	redirect              = 137
	sourceLink            = 1
	targetLink            = 2
)

// icmp6Of is a message with its checksum.
func icmp6Of(from, to netip.Addr, kind byte, body ...byte) []byte {
	message := append([]byte{kind, 0, 0, 0}, body...)
	pseudo := slices.Concat(from.AsSlice(), to.AsSlice(), []byte{0, 0, byte(len(message) >> 8), byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6}, message)
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	binary.BigEndian.PutUint16(message[2:], wire.Checksum(pseudo))
	return message
}

// discovery is a solicitation or an advertisement of target, with one option.
func discovery(from, to netip.Addr, kind byte, target netip.Addr, option byte, link fabric.MAC) []byte {
	return icmp6Of(from, to, kind, slices.Concat([]byte{0, 0, 0, 0}, target.AsSlice(), []byte{option, 1}, link[:])...)
}
