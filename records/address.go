package records

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Holder says, to follow "in use", who has the address.
func (a Address) Holder() string {
	switch a.Kind {
	case KindGateway:
		return "as the gateway"
	case KindAux:
		return "as the aux address " + a.Name
	case KindForeign:
		return "by a machine on the wire"
	case KindUnreadable:
		return "by a record that cannot be read"
	}
	if a.Name != "" {
		return "by host " + a.Host + " (container " + a.Name + ")"
	}
	return "by host " + a.Host
}

// PoolView is what the records say about the addresses of a pool at one revision.
type PoolView struct {
	Pool Pool
	// First and Last bound what addresses are picked from.
	First, Last netip.Addr
	// Known are the addresses that have a record, free ones included.
	Known map[netip.Addr]Address
	// Now is the time of the view.
	Now time.Time

	key      string
	within   netip.Prefix
	snapshot kvstore.Snapshot
}

func newView(key string, pool Pool, within netip.Prefix) *PoolView {
	v := &PoolView{Pool: pool, key: key, within: within}
	v.First, v.Last = span(pool.Prefix, within)
	return v
}

// ViewPool reads the addresses of the pool under key. Addresses are picked from
// within, where that is set. A record that cannot be read counts as an address
// in use.
func (r Records) ViewPool(ctx context.Context, key string, pool Pool, within netip.Prefix) (*PoolView, error) {
	v := newView(key, pool, within)
	snapshot, err := r.Store.List(ctx, PoolAddresses(key))
	if err != nil {
		return nil, err
	}
	v.fill(snapshot, r.now())
	return v, nil
}

// fill takes in what was read of the view's addresses.
func (v *PoolView) fill(snapshot kvstore.Snapshot, now time.Time) {
	v.Known, v.Now, v.snapshot = make(map[netip.Addr]Address, len(snapshot.Items)), now, snapshot
	prefix := PoolAddresses(v.key)
	for key, item := range snapshot.Items {
		addr, err := netip.ParseAddr(strings.TrimPrefix(key, prefix))
		if err != nil {
			continue // of no address
		}
		address, err := kvstore.Decode[Address](item)
		if err != nil {
			address = Address{Kind: KindUnreadable}
		}
		v.Known[addr] = address
	}
}

// took notes a claim that was written at revision.
func (v *PoolView) took(addr netip.Addr, claim Address, revision int64) {
	key := AddressKey(v.key, addr)
	v.Known[addr], v.snapshot.Items[key] = claim, kvstore.Item{Key: key, Revision: revision}
}

// InSpan says whether addresses are picked from where addr is.
func (v *PoolView) InSpan(addr netip.Addr) bool {
	return v.First.Compare(addr) <= 0 && addr.Compare(v.Last) <= 0
}

// Free says whether nobody has addr.
func (v *PoolView) Free(addr netip.Addr) bool {
	address, known := v.Known[addr]
	return !known || address.Kind == KindFree
}

// FreedWithin says whether addr was freed less than d ago. A time further than d in
// the future is another host's clock that is off: then it was not.
func (v *PoolView) FreedWithin(addr netip.Addr, d time.Duration) bool {
	address := v.Known[addr]
	return address.Kind == KindFree && v.Now.Sub(address.Freed).Abs() < d
}

// Room is the number of free addresses.
func (v *PoolView) Room() int {
	room := Size(v.First, v.Last)
	for addr := range v.Known {
		if v.InSpan(addr) && !v.Free(addr) {
			room--
		}
	}
	return room
}

// Oldest are the addresses of kind, the one that got it first ahead.
func (v *PoolView) Oldest(kind AddressKind) []netip.Addr {
	var found []netip.Addr
	for addr, address := range v.Known {
		if address.Kind == kind && v.InSpan(addr) {
			found = append(found, addr)
		}
	}
	v.SortByAge(found)
	return found
}

// SortByAge sorts addresses by their last change, the earliest first. It goes by
// revisions: the hosts' clocks may differ.
func (v *PoolView) SortByAge(addrs []netip.Addr) {
	slices.SortFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(v.revision(a), v.revision(b)) })
}

func (v *PoolView) revision(addr netip.Addr) int64 {
	return v.snapshot.Items[AddressKey(v.key, addr)].Revision
}

// guard holds as long as addr's record is as the view has it.
func (v *PoolView) guard(addr netip.Addr) kvstore.Guard {
	key := AddressKey(v.key, addr)
	if item, ok := v.snapshot.Items[key]; ok {
		return kvstore.Unchanged(item)
	}
	return kvstore.Missing(key)
}

// full is the error of a pool without a free address.
func (v *PoolView) full() error {
	return fmt.Errorf("%s is full: all of its %d addresses are in use", v, Size(v.First, v.Last))
}

func (v *PoolView) String() string {
	if v.within.IsValid() {
		return fmt.Sprintf("range %s of pool %s", v.within, v.Pool.Prefix)
	}
	return "pool " + v.Pool.Prefix.String()
}

// inUse is the error of an address that an engine chose and another has. Docker's
// allocator does not know what the other hosts have, and offers the same address
// again the next time: the error names one that is free, where there is one.
func (r Records) inUse(ctx context.Context, network fabric.Network, subnet fabric.Subnet, addr netip.Addr, holder Address, dockerIPAM bool) error {
	v, err := r.ViewPool(ctx, subnet.Pool, Pool{Prefix: subnet.Prefix}, subnet.Range)
	if err != nil {
		return err
	}
	if v.Room() <= 0 {
		return v.full()
	}
	free := v.First
	for !v.Free(free) {
		free = free.Next()
	}
	remedy := fmt.Sprintf("start the container with another --ip (%s is free)", free)
	if dockerIPAM {
		remedy += ", or create the network with --ipam-driver causeway"
	}
	return fmt.Errorf("address %s on network %s is in use %s: %s", addr, network.Label(), holder.Holder(), remedy)
}

// Quarantine is how long a freed address is passed over while others are free, so
// that what was meant for one container does not reach the next.
const Quarantine = time.Minute

// KeepFreed is how long a freed address keeps its record. After that it is as good
// as one that was never used, and the record only makes reading the pool slower.
const KeepFreed = 5 * time.Minute

// deleteFreed deletes the records of addresses that were freed before KeepFreed: in
// batches, so that most reads have nothing to delete. A batch of which a record
// changed meanwhile is left to the next read.
func (r Records) deleteFreed(ctx context.Context, v *PoolView) error {
	const least, most = 32, 100
	var txn kvstore.Txn
	var freed []netip.Addr
	for addr, address := range v.Known {
		if address.Kind == KindFree && !v.FreedWithin(addr, KeepFreed) && len(freed) < most {
			freed = append(freed, addr)
			txn.If = append(txn.If, v.guard(addr))
			txn.Then = append(txn.Then, kvstore.Delete(AddressKey(v.key, addr)))
		}
	}
	if len(freed) < least {
		return nil
	}
	_, err := r.Store.Commit(ctx, txn)
	if errors.Is(err, kvstore.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, addr := range freed {
		delete(v.Known, addr)
		delete(v.snapshot.Items, AddressKey(v.key, addr))
	}
	return nil
}
