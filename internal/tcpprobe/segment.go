package tcpprobe

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/wire"
)

// The flags of a TCP segment (RFC 9293 §3.1).
const (
	syn = 0x02
	rst = 0x04
	ack = 0x10
)

const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
)

// segment is one end of a connection that is never made.
type segment struct {
	from, to    netip.AddrPort
	sequence    uint32
	destination net.HardwareAddr
}

// frame is the segment in IP and Ethernet, from a locally administered MAC.
func (s segment) frame(flags byte) []byte {
	tcp := binary.BigEndian.AppendUint16(nil, s.from.Port())
	tcp = binary.BigEndian.AppendUint16(tcp, s.to.Port())
	tcp = binary.BigEndian.AppendUint32(tcp, s.sequence)
	tcp = append(tcp, 0, 0, 0, 0, tcpLen/4<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	from, to := s.from.Addr().AsSlice(), s.to.Addr().AsSlice()
	pseudo := slices.Concat(from, to, []byte{0, unix.IPPROTO_TCP, 0, tcpLen}, tcp)
	binary.BigEndian.PutUint16(tcp[16:], wire.Checksum(pseudo))

	ethernet := append(slices.Clone(s.destination), 0x02, 'k', 'n', 'o', 'c', 'k')
	if s.to.Addr().Is6() {
		ethernet = binary.BigEndian.AppendUint16(ethernet, unix.ETH_P_IPV6)
		return slices.Concat(ethernet, []byte{0x60, 0, 0, 0, 0, tcpLen, unix.IPPROTO_TCP, 64}, from, to, tcp)
	}
	ethernet = binary.BigEndian.AppendUint16(ethernet, unix.ETH_P_IP)
	header := slices.Concat([]byte{0x45, 0, 0, ipv4Len + tcpLen, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}, from, to)
	binary.BigEndian.PutUint16(header[10:], wire.Checksum(header))
	return slices.Concat(ethernet, header, tcp)
}

func (s segment) tcpAt() int {
	if s.to.Addr().Is6() {
		return ethernetLen + ipv6Len
	}
	return ethernetLen + ipv4Len
}

// answers passes what the host sends back on this connection.
func (s segment) answers() []bpf.Instruction {
	protocol, typ := uint32(unix.ETH_P_IP), uint32(ethernetLen+9)
	if s.to.Addr().Is6() {
		protocol, typ = unix.ETH_P_IPV6, ethernetLen+6
	}
	at := uint32(s.tcpAt())
	ports := uint32(s.to.Port())<<16 | uint32(s.from.Port())
	const all = 1 << 16
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocol, SkipTrue: 5},
		bpf.LoadAbsolute{Off: typ, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: at, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ports, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.RetConstant{Val: 0},
	}
}

// accepts says whether a frame that passed the filter agrees to the connection.
func (s segment) accepts(frame []byte) bool {
	at := s.tcpAt()
	return len(frame) >= at+tcpLen && frame[at+13]&(syn|ack|rst) == syn|ack &&
		binary.BigEndian.Uint32(frame[at+8:]) == s.sequence+1
}
