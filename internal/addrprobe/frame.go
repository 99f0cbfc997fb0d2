package addrprobe

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/wire"
)

// The frames of ARP (RFC 826) and Neighbour Discovery (RFC 4861) that ask who
// has an address, or tell.

const ethernetLen = 14

func ethernet(to, from fabric.MAC, protocol uint16) []byte {
	frame := slices.Concat(to[:], from[:])
	return binary.BigEndian.AppendUint16(frame, protocol)
}

const (
	arpRequest = 1
	arpReply   = 2
	arpLen     = 28
)

// arp is an ARP packet for IPv4 over Ethernet.
type arp struct {
	op                   uint16
	senderMAC, targetMAC fabric.MAC
	sender, target       netip.Addr
}

// broadcast gives the frame that all stations get.
func (a arp) broadcast() []byte {
	frame := ethernet(fabric.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, a.senderMAC, unix.ETH_P_ARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4) // Ethernet, IPv4, their lengths
	frame = binary.BigEndian.AppendUint16(frame, a.op)
	return slices.Concat(frame, a.senderMAC[:], a.sender.AsSlice(), a.targetMAC[:], a.target.AsSlice())
}

func parseARP(frame []byte) (a arp, ok bool) {
	if len(frame) < ethernetLen+arpLen || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_ARP {
		return arp{}, false
	}
	b := frame[ethernetLen:]
	if binary.BigEndian.Uint32(b) != 0x00010800 || b[4] != 6 || b[5] != 4 {
		return arp{}, false
	}
	return arp{
		op: binary.BigEndian.Uint16(b[6:]), senderMAC: fabric.MAC(b[8:14]), targetMAC: fabric.MAC(b[18:24]),
		sender: netip.AddrFrom4([4]byte(b[14:18])), target: netip.AddrFrom4([4]byte(b[24:28])),
	}, true
}

const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	ipv6Len                = 40
	neighbourLen           = 24 // type, code, checksum, flags, target (RFC 4861 §4.3, §4.4)
)

// nd is a Neighbour Solicitation or Advertisement.
type nd struct {
	kind   byte
	flags  byte // override and the like, of an advertisement
	mac    fabric.MAC
	source netip.Addr
	target netip.Addr
	// option is the type of the link-layer address option, zero for none.
	option byte
}

// multicast gives the frame that goes to group.
func (n nd) multicast(group netip.Addr) []byte {
	to := group.As16()
	body := []byte{n.kind, 0, 0, 0, n.flags, 0, 0, 0}
	body = append(body, n.target.AsSlice()...)
	if n.option != 0 {
		body = append(append(body, n.option, 1), n.mac[:]...)
	}
	pseudo := slices.Concat(n.source.AsSlice(), group.AsSlice(), []byte{0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6})
	binary.BigEndian.PutUint16(body[2:], wire.Checksum(append(pseudo, body...)))

	frame := ethernet(fabric.MAC{0x33, 0x33, to[12], to[13], to[14], to[15]}, n.mac, unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255)
	return slices.Concat(frame, n.source.AsSlice(), group.AsSlice(), body)
}

func parseND(frame []byte) (n nd, ok bool) {
	if len(frame) < ethernetLen+ipv6Len+neighbourLen || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IPV6 {
		return nd{}, false
	}
	ip, body := frame[ethernetLen:], frame[ethernetLen+ipv6Len:]
	const onLink = 255 // a hop limit that no router has touched (RFC 4861 §7.1)
	if ip[6] != unix.IPPROTO_ICMPV6 || ip[7] != onLink || body[0] != neighbourSolicitation && body[0] != neighbourAdvertisement {
		return nd{}, false
	}
	return nd{
		kind: body[0], flags: body[4], mac: fabric.MAC(frame[6:12]),
		source: netip.AddrFrom16([16]byte(ip[8:24])), target: netip.AddrFrom16([16]byte(body[8:24])),
	}, true
}

// solicitedNode is the group in which the holder of addr listens (RFC 4291 §2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}
