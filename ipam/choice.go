package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// restTime is how long a freed address is passed over while others are free, so
// that what was meant for one container does not reach the next.
const restTime = time.Minute

// keepTime is how long a freed address keeps its record: as good as fresh then,
// it would only make each look at the pool longer.
const keepTime = 5 * time.Minute

// view is what the records say about the addresses of a pool.
type view struct {
	snapshot    kvstore.Snapshot
	known       map[netip.Addr]records.Address
	first, last netip.Addr // what is picked from
	now         time.Time
}

func (i *IPAM) view(ctx context.Context, t target) (view, error) {
	prefix := records.PoolAddresses(t.key)
	v := view{now: i.now()}
	v.first, v.last = span(t.pool.Prefix, t.within)
	var err error
	if v.snapshot, err = i.Store.List(ctx, prefix); err != nil {
		return v, err
	}
	byText, err := kvstore.DecodeAll[records.Address](v.snapshot, prefix)
	if err != nil {
		return v, err
	}
	v.known = make(map[netip.Addr]records.Address, len(byText))
	for text, address := range byText {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return v, badAddress(text)
		}
		v.known[addr] = address
	}
	return v, nil
}

// guard holds as long as addr's record is as the view has it.
func (v view) guard(t target, addr netip.Addr) kvstore.Guard {
	key := records.AddressKey(t.key, addr)
	if item, ok := v.snapshot.Items[key]; ok {
		return kvstore.Unchanged(item)
	}
	return kvstore.Missing(key)
}

func (v view) inSpan(addr netip.Addr) bool {
	return v.first.Compare(addr) <= 0 && addr.Compare(v.last) <= 0
}

// free says whether nobody has addr.
func (v view) free(addr netip.Addr) bool {
	address, ever := v.known[addr]
	return !ever || address.Kind == records.KindFree
}

// freedWithin says whether addr was freed less than d ago. A time to come is of
// a clock that is off, and tells nothing.
func (v view) freedWithin(addr netip.Addr, d time.Duration) bool {
	address := v.known[addr]
	return address.Kind == records.KindFree && v.now.Sub(address.Freed).Abs() < d
}

// room is the number of free addresses.
func (v view) room() int {
	room := size(v.first, v.last)
	for addr := range v.known {
		if v.inSpan(addr) && !v.free(addr) {
			room--
		}
	}
	return room
}

// choices are the addresses that may be had, the best first. Those that a
// machine on the wire had when it was last asked come last.
func (v view) choices(t target) iter.Seq[netip.Addr] {
	best := v.freshFirst
	if t.pool.DockerIPAM {
		best = v.topFirst
	}
	return func(yield func(netip.Addr) bool) {
		for addr := range best(t) {
			if !yield(addr) {
				return
			}
		}
		for _, addr := range v.oldest(t, records.KindForeign) {
			if !yield(addr) {
				return
			}
		}
	}
}

// best is the first of the choices.
func (v view) best(t target) (best netip.Addr, ok bool) {
	v.choices(t)(func(addr netip.Addr) bool {
		best = addr
		return false
	})
	return best, best.IsValid()
}

func (v view) full(t target) error {
	return fmt.Errorf("%s is full: all of its %d addresses are in use", t, size(v.first, v.last))
}

// freshFirst goes through what has no record, from the bottom up, and then
// through what was freed, the longest-rested first.
func (v view) freshFirst(t target) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for addr := range candidates(v.first, v.last, false) {
			if _, ever := v.known[addr]; !ever && !yield(addr) {
				return
			}
		}
		for _, addr := range v.oldest(t, records.KindFree) {
			if !yield(addr) {
				return
			}
		}
	}
}

// topFirst goes from the top down, for Docker's own allocator comes from below.
// Its next address is not known here and must not be taken: so what rests is
// passed over only in the upper part of the free addresses. Below that part,
// containers that come and go fast would drive their hosts down to Docker's.
func (v view) topFirst(t target) iter.Seq[netip.Addr] {
	const part = 4
	return func(yield func(netip.Addr) bool) {
		upper := max(1, v.room()/part)
		var resting []netip.Addr
		yieldResting := func() bool {
			v.sortByAge(t, resting)
			for _, addr := range resting {
				if !yield(addr) {
					return false
				}
			}
			resting = nil
			return true
		}
		for addr := range candidates(v.first, v.last, true) {
			if !v.free(addr) {
				continue
			}
			if upper--; upper >= 0 && v.freedWithin(addr, restTime) {
				resting = append(resting, addr)
				continue
			}
			if upper < 0 && !yieldResting() || !yield(addr) {
				return
			}
		}
		yieldResting()
	}
}

// oldest are the addresses of kind, the first to become so first.
func (v view) oldest(t target, kind records.AddressKind) []netip.Addr {
	var found []netip.Addr
	for addr, address := range v.known {
		if address.Kind == kind && v.inSpan(addr) {
			found = append(found, addr)
		}
	}
	v.sortByAge(t, found)
	return found
}

// sortByAge goes by revisions: the hosts' clocks may differ.
func (v view) sortByAge(t target, addrs []netip.Addr) {
	revision := func(addr netip.Addr) int64 {
		return v.snapshot.Items[records.AddressKey(t.key, addr)].Revision
	}
	slices.SortFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(revision(a), revision(b)) })
}

// sweep removes records that were kept long enough, but for that of taken: some
// at a time, so that few claims pay for it. What cannot be removed now, because
// it changed meanwhile or the store went away, is there for the next claim.
func (i *IPAM) sweep(ctx context.Context, t target, v view, taken netip.Addr) {
	const least, most = 32, 100
	var txn kvstore.Txn
	for addr, address := range v.known {
		if address.Kind == records.KindFree && addr != taken && !v.freedWithin(addr, keepTime) && len(txn.If) < most {
			txn.If = append(txn.If, v.guard(t, addr))
			txn.Then = append(txn.Then, kvstore.Delete(records.AddressKey(t.key, addr)))
		}
	}
	if len(txn.If) < least {
		return
	}
	if _, err := i.Store.Commit(ctx, txn); err != nil && !errors.Is(err, kvstore.ErrConflict) {
		i.Log.WithError(err).WithField("pool", t.key).Debug("records of freed addresses are left for another time")
	}
}
