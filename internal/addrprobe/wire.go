package addrprobe

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// filter says which incoming frames a wire hears.
type filter struct {
	protocol uint16 // ETH_P_*; zero for none
	program  []bpf.Instruction
}

func filterFor(addr netip.Addr) filter {
	if addr.Is4() {
		return filter{protocol: unix.ETH_P_ARP}
	}
	return filter{protocol: unix.ETH_P_IPV6, program: neighbourMessages()}
}

// neighbourMessages passes Neighbour Solicitations and Advertisements (RFC 4861
// §4.3, §4.4): without it, a busy link's IPv6 traffic would all be copied here.
func neighbourMessages() []bpf.Instruction {
	const nextHeader, typ, all = ethernetLen + 6, ethernetLen + ipv6Len, 1 << 16
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: typ, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: neighbourSolicitation, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: neighbourAdvertisement, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.RetConstant{Val: 0},
	}
}

// openWire opens a packet socket (packet(7)) that sends whole frames out of
// link and hears what passes the filter.
func openWire(ns netns.NsHandle, link netlink.Link, hears filter) (*os.File, error) {
	var fd int
	err := nl.Do(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	wire := os.NewFile(uintptr(fd), "packet socket")
	index := link.Attrs().Index
	// Answers come to groups that the host may not be in.
	err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	if err == nil && hears.program != nil {
		err = attach(fd, hears.program)
	}
	if err == nil { // only now does the socket hear anything
		order := bits.ReverseBytes16(hears.protocol) // network byte order
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: order, Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", link.Attrs().Name, err), wire.Close())
	}
	return wire, nil
}

func attach(fd int, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filters := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filters[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]})
}
