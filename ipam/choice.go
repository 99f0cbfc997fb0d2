package ipam

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/records"
)

// choices are the addresses that may be claimed, the best first. Those that a
// machine on the wire had when it was last asked come last.
func choices(v *records.PoolView) iter.Seq[netip.Addr] {
	foreign := slices.Values(v.Oldest(records.KindForeign))
	if v.Pool.DockerIPAM {
		return concat(fromTop(v), foreign)
	}
	fresh := func(yield func(netip.Addr) bool) {
		for addr := range records.Addrs(v.First, v.Last, false) {
			if _, known := v.Known[addr]; !known && !yield(addr) {
				return
			}
		}
	}
	return concat(fresh, slices.Values(v.Oldest(records.KindFree)), foreign)
}

// fromTop goes from the top down, because Docker's own allocator goes up from below.
// The address that it will give out next is not known here and must not be claimed. So
// quarantined addresses are passed over only in the upper quarter of the free ones:
// else containers that come and go fast would drive causeway's choice down to Docker's.
func fromTop(v *records.PoolView) iter.Seq[netip.Addr] {
	free := func(yield func(int, netip.Addr) bool) {
		n := 0
		for addr := range records.Addrs(v.First, v.Last, true) {
			if v.Free(addr) {
				if !yield(n, addr) {
					return
				}
				n++
			}
		}
	}
	upper := max(1, v.Room()/4)
	return func(yield func(netip.Addr) bool) {
		var quarantined []netip.Addr
		for n, addr := range free {
			if n == upper {
				break
			}
			if v.FreedWithin(addr, records.Quarantine) {
				quarantined = append(quarantined, addr)
			} else if !yield(addr) {
				return
			}
		}
		v.SortByAge(quarantined)
		below := func(yield func(netip.Addr) bool) {
			for n, addr := range free {
				if n >= upper && !yield(addr) {
					return
				}
			}
		}
		concat(slices.Values(quarantined), below)(yield)
	}
}

// concat goes through one sequence after the other.
func concat(sequences ...iter.Seq[netip.Addr]) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, sequence := range sequences {
			for addr := range sequence {
				if !yield(addr) {
					return
				}
			}
		}
	}
}
