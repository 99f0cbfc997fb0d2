package trace

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	ethernetLen = 14
	ipv4Len     = 20 // without options, which neither probes nor tunnels send
	ipv6Len     = 40
	udpTunnel   = 8 + 8 // UDP and VXLAN, or Geneve without options
	greTunnel   = 8     // with a key (RFC 2890)
	echoHeader  = 8
)

// Types of ICMP and ICMPv6.
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
)

// Flow is what the packets of a probe are told from others by.
type Flow struct {
	From netip.Addr `json:"from"`
	To   netip.Addr `json:"to"`
	// Port is TCP's; zero: the probe is an ICMP echo.
	Port uint16 `json:"port,omitempty"`
	// Mark is the echo's identifier, or TCP's port at From.
	Mark uint16 `json:"mark"`
}

// direction says whether an IP packet is the flow's, and which way it goes.
func (f Flow) direction(packet []byte) (request, answer bool) {
	protocol, source, destination, payload, ok := parse(packet)
	if !ok {
		return false, false
	}
	there, back := source == f.From && destination == f.To, source == f.To && destination == f.From
	first, second := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
	if f.Port != 0 {
		tcp := protocol == unix.IPPROTO_TCP
		return tcp && there && first == f.Mark && second == f.Port, tcp && back && first == f.Port && second == f.Mark
	}
	icmp, echo, reply := uint8(unix.IPPROTO_ICMP), uint8(echo4), uint8(reply4)
	if f.To.Is6() {
		icmp, echo, reply = unix.IPPROTO_ICMPV6, echo6, reply6
	}
	ours := protocol == icmp && binary.BigEndian.Uint16(payload[4:]) == f.Mark
	return ours && there && payload[0] == echo, ours && back && payload[0] == reply
}

// parse reads an IP header; the payload has at least the bytes that direction reads.
func parse(packet []byte) (protocol uint8, source, destination netip.Addr, payload []byte, ok bool) {
	switch {
	case len(packet) >= ipv4Len+echoHeader && packet[0] == 0x45:
		return packet[9], netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:])), packet[ipv4Len:], true
	case len(packet) >= ipv6Len+echoHeader && packet[0]>>4 == 6:
		return packet[6], netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:])), packet[ipv6Len:], true
	}
	return 0, netip.Addr{}, netip.Addr{}, nil, false
}

// filter passes frames between the two addresses, as far as their last four bytes tell,
// whose IP header is at an offset.
func (f Flow) filter(offset int) []bpf.Instruction {
	const all = 1 << 16
	source, destination := uint32(offset+12), uint32(offset+16)
	if f.To.Is6() {
		source, destination = uint32(offset+20), uint32(offset+36)
	}
	from, to := tail(f.From), tail(f.To)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: source, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: from, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: to, SkipTrue: 4},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: destination, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: to, SkipTrue: 3},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: destination, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: from, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.RetConstant{Val: 0},
	}
}

func tail(addr netip.Addr) uint32 {
	bytes := addr.AsSlice()
	return binary.BigEndian.Uint32(bytes[len(bytes)-4:])
}
