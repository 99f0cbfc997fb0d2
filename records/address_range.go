package records

import (
	"encoding/binary"
	"iter"
	"math"
	"net/netip"
)

// Bounds are the first and the last address of a subnet that a station may
// have. IPv4 keeps the network's and the broadcast address back (RFC 1122
// §3.2.1.3; not on /31, RFC 3021), IPv6 the subnet-router anycast address
// (RFC 4291 §2.6.1; not on /127, RFC 6164).
func Bounds(subnet netip.Prefix) (first, last netip.Addr) {
	first, last = subnet.Masked().Addr(), lastOf(subnet)
	if host := first.BitLen() - subnet.Bits(); host < 2 {
		return first, last
	}
	if first.Is4() {
		last = last.Prev()
	}
	return first.Next(), last
}

// lastOf is the last address of a subnet.
func lastOf(subnet netip.Prefix) netip.Addr {
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

// span is the first and the last address of subnet, and of within where that is
// set, that a station may have. It is empty if the last comes before the first.
func span(subnet, within netip.Prefix) (first, last netip.Addr) {
	first, last = Bounds(subnet)
	if within.IsValid() {
		first, last = later(first, within.Masked().Addr()), earlier(last, lastOf(within))
	}
	return first, last
}

// Size is the number of addresses from first to last; math.MaxInt for more.
func Size(first, last netip.Addr) int {
	if last.Less(first) {
		return 0
	}
	from, to := first.As16(), last.As16()
	steps := binary.BigEndian.Uint64(to[8:]) - binary.BigEndian.Uint64(from[8:])
	if [8]byte(from[:8]) != [8]byte(to[:8]) || steps >= math.MaxInt {
		return math.MaxInt
	}
	return int(steps) + 1
}

// Addrs are the addresses from first to last, from the top down or from the bottom up.
func Addrs(first, last netip.Addr, down bool) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		next, end, step := first, last, netip.Addr.Next
		if down {
			next, end, step = last, first, netip.Addr.Prev
		}
		if last.Less(first) {
			return
		}
		for yield(next) && next != end {
			next = step(next)
		}
	}
}

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}
