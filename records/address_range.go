package records

import (
	"encoding/binary"
	"iter"
	"math"
	"net/netip"
)

// span is the first and the last address of subnet, and of within where that is
// set, that a station may have. It is empty if the last comes before the first.
func span(subnet, within netip.Prefix) (first, last netip.Addr) {
	first, last = Bounds(subnet)
	if within.IsValid() {
		first, last = later(first, within.Masked().Addr()), earlier(last, LastOf(within))
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

// after is the address n steps after addr.
func after(addr netip.Addr, n int) netip.Addr {
	bytes := addr.As16()
	binary.BigEndian.PutUint64(bytes[8:], binary.BigEndian.Uint64(bytes[8:])+uint64(n)) //nolint:gosec // not negative
	next := netip.AddrFrom16(bytes)
	if addr.Is4() {
		return next.Unmap()
	}
	return next
}

// limit ends a sequence after most values.
func limit[T any](values iter.Seq[T], most int) iter.Seq[T] {
	return func(yield func(T) bool) {
		n := 0
		for value := range values {
			if n == most || !yield(value) {
				return
			}
			n++
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
