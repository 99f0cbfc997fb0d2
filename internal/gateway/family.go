package gateway

import (
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// family is an address family's place in headers and tables.
type family struct {
	nft nftables.TableFamily
	key nftables.SetDatatype
	// source and destination are offsets in the network header, length an address's,
	// in bytes (RFC 791 §3.1, RFC 8200 §3).
	source, destination, length uint32
	// icmp is the protocol's number, echo the type of its request, redirect that of a
	// router's word of a shorter way; let in are the types that neighbour discovery needs
	// (RFC 4861 §4).
	icmp, echo, redirect byte
	discovery            []byte
	is                   func(netip.Addr) bool
}

//nolint:gochecknoglobals // constants, if structs had any
var (
	ipv4 = family{
		nft: nftables.TableFamilyIPv4, key: nftables.TypeIPAddr, source: 12, destination: 16, length: 4,
		icmp: unix.IPPROTO_ICMP, echo: 8, redirect: 5, is: netip.Addr.Is4,
	}
	ipv6 = family{
		nft: nftables.TableFamilyIPv6, key: nftables.TypeIP6Addr, source: 8, destination: 24, length: 16,
		icmp: unix.IPPROTO_ICMPV6, echo: 128, redirect: 137, discovery: []byte{135, 136}, is: netip.Addr.Is6,
	}
)

// last is the highest address of a prefix.
func last(prefix netip.Prefix) netip.Addr {
	octets := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < 8*len(octets); bit++ {
		octets[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(octets)
	return addr
}
