package addrprobe

import (
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/wire"
)

// listenFor hears what may tell of addr on link.
func listenFor(ns netns.NsHandle, link netlink.Link, addr netip.Addr) (*os.File, error) {
	if addr.Is4() {
		return wire.Open(ns, link, unix.ETH_P_ARP, nil)
	}
	return wire.Open(ns, link, unix.ETH_P_IPV6, neighbourMessages())
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
