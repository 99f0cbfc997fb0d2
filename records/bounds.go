package records

import "net/netip"

// Bounds are the first and the last address of a subnet that a station may
// have. IPv4 keeps the network's and the broadcast address back (RFC 1122
// §3.2.1.3; not on /31, RFC 3021), IPv6 the subnet-router anycast address
// (RFC 4291 §2.6.1; not on /127, RFC 6164).
func Bounds(subnet netip.Prefix) (first, last netip.Addr) {
	first, last = subnet.Masked().Addr(), LastOf(subnet)
	if host := first.BitLen() - subnet.Bits(); host < 2 {
		return first, last
	}
	if first.Is4() {
		last = last.Prev()
	}
	return first.Next(), last
}

// LastOf is the last address of a subnet.
func LastOf(subnet netip.Prefix) netip.Addr {
	bytes := subnet.Masked().Addr().AsSlice()
	for bit := subnet.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// Assignable says whether a station may have addr on subnet.
func Assignable(subnet netip.Prefix, addr netip.Addr) bool {
	first, last := Bounds(subnet)
	return first.Compare(addr) <= 0 && addr.Compare(last) <= 0
}
