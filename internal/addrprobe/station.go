package addrprobe

import (
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
)

// Station is who has an address on a link.
type Station struct {
	MAC  fabric.MAC
	Addr netip.Addr
}

// Question is the ARP request by which from asks to alone for its IPv4 address, as a
// neighbour does that polls its cache (RFC 1122 §2.3.2.1). It is filled up to size bytes,
// which a station passes over.
func Question(from, to Station, size int) []byte {
	frame := arp{op: arpRequest, senderMAC: from.MAC, sender: from.Addr, target: to.Addr}.broadcast()
	copy(frame, to.MAC[:])
	if fill := size - len(frame); fill > 0 {
		frame = append(frame, make([]byte, fill)...)
	}
	return frame
}

// Answer reads an ARP reply.
func Answer(frame []byte) (from Station, ok bool) {
	a, ok := parseARP(frame)
	return Station{a.senderMAC, a.sender}, ok && a.op == arpReply
}
