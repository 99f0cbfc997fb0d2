package planetest

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Attack is a frame that a container must not be able to send.
type Attack struct {
	Name  string
	Frame []byte
}

// Attacks are what attacker does to victim, or in its name. Both have an IPv4 and an IPv6
// address; victim's MAC is the one that attacker reaches it by.
func Attacks(attacker, victim fabric.Endpoint) []Attack {
	own, theirs := attacker.MAC, victim.MAC
	own4, own6 := attacker.Addrs[0].Addr(), attacker.Addrs[1].Addr()
	theirs4, theirs6 := victim.Addrs[0].Addr(), victim.Addrs[1].Addr()
	nodes := netip.MustParseAddr("ff02::1")
	nobody := fabric.MAC{0x02, 0xee, 1, 2, 3, 4}
	virtual := fabric.MAC{0, 0, 0x5e, 0, 1, 7}
	datagram := udpOf(4000, 7704, "attack")
	icmp6 := func(from netip.Addr, message []byte) []byte {
		return ipFrame(theirs, own, from, theirs6, unix.IPPROTO_ICMPV6, message)
	}
	return []Attack{
		{"with nobody's MAC", ipFrame(theirs, nobody, own4, theirs4, unix.IPPROTO_UDP, datagram)},
		{"with a virtual router's MAC", ipFrame(theirs, virtual, own4, theirs4, unix.IPPROTO_UDP, datagram)},
		{"with another's MAC", ipFrame(broadcast(), theirs, own4, theirs4, unix.IPPROTO_UDP, datagram)},
		{"from another's IPv4 address", ipFrame(theirs, own, theirs4.Next(), theirs4, unix.IPPROTO_UDP, datagram)},
		{"from no IPv4 address", ipFrame(broadcast(), own, netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), unix.IPPROTO_UDP, datagram)},
		{"from another's IPv6 address", ipFrame(theirs, own, theirs6.Next(), theirs6, unix.IPPROTO_UDP, datagram)},
		{"from another's link-local address", ipFrame(theirs, own, theirs.LinkLocal(), theirs6, unix.IPPROTO_UDP, datagram)},
		{"ARP announcement of another's address", arpFrame(own, 1, own, theirs4, theirs4)},
		{"ARP answer for another's address", arpFrame(own, 2, own, theirs4, own4)},
		{"ARP answer with another's MAC", arpFrame(own, 2, theirs, own4, theirs4)},
		{"neighbour advertisement of another's address", icmp6(own6, discovery(own6, theirs6, neighbourAdvert, theirs6.Next(), targetLink, own))},
		{"neighbour advertisement with another's MAC", icmp6(own6, discovery(own6, theirs6, neighbourAdvert, own6, targetLink, theirs))},
		{"solicitation with another's MAC", icmp6(own6, discovery(own6, theirs6, neighbourSolicitation, theirs6, sourceLink, nobody))},
		{"router advertisement", icmp6(own.LinkLocal(), icmp6Of(own.LinkLocal(), theirs6, routerAdvertisement, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0))},
		{"router advertisement to all", ipFrame(fabric.MAC{0x33, 0x33, 0, 0, 0, 1}, own, own.LinkLocal(), nodes, unix.IPPROTO_ICMPV6,
			icmp6Of(own.LinkLocal(), nodes, routerAdvertisement, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0))},
		{"router advertisement behind an extension header", ipFrame(theirs, own, own.LinkLocal(), theirs6, unix.IPPROTO_DSTOPTS, slices.Concat(
			[]byte{unix.IPPROTO_ICMPV6, 0, 1, 4, 0, 0, 0, 0}, icmp6Of(own.LinkLocal(), theirs6, routerAdvertisement, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0)))},
		{"redirect", icmp6(own.LinkLocal(), icmp6Of(own.LinkLocal(), theirs6, redirect, slices.Concat(make([]byte, 4), own.LinkLocal().AsSlice(), theirs6.AsSlice())...))},
		{"DHCP answer", ipFrame(broadcast(), own, own4, netip.AddrFrom4([4]byte{255, 255, 255, 255}), unix.IPPROTO_UDP, udpOf(67, 68, "offer"))},
		{"DHCPv6 answer", ipFrame(theirs, own, own.LinkLocal(), theirs6, unix.IPPROTO_UDP, udpOf(547, 546, "offer"))},
		{"BPDU", frameOf(fabric.MAC{1, 0x80, 0xc2}, own, 38, append([]byte{0x42, 0x42, 3}, make([]byte, 35)...))},
		{"of a VLAN", frameOf(theirs, own, unix.ETH_P_8021Q, append([]byte{0, 7, 8, 0}, make([]byte, 46)...))},
		{"of another protocol", frameOf(theirs, own, 0x88b5, make([]byte, 46))},
	}
}
