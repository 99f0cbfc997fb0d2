package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// errForeign says that a machine on the wire has the address, though no record does.
var errForeign = errors.New("in use on the wire")

// take claims an address and, on an underlay network, asks the wire whether a
// machine that nobody knows of has it. One that has is remembered, and the error
// is errForeign. The claim comes first: two hosts never probe for one address,
// and so never take each other for its holder.
func (i *IPAM) take(ctx context.Context, t target, addr netip.Addr, claim records.Address, guards ...kvstore.Guard) error {
	key, pool := records.AddressKey(t.key, addr), kvstore.Exists(records.PoolKey(t.key))
	var network fabric.Network
	if i.Probe != nil && claim.Kind == records.KindEndpoint {
		var err error
		if network, err = i.network(ctx, t); err != nil {
			return err
		}
	}
	revision, err := i.Store.Commit(ctx, kvstore.Txn{
		If:   append(guards, pool),
		Then: []kvstore.Op{kvstore.Put(key, claim)},
	})
	switch {
	case err == nil:
		i.unsure.Delete(key)
	case !errors.Is(err, kvstore.ErrConflict):
		i.unsure.Store(key, nil)
	}
	if err != nil || network.Mode != fabric.ModeUnderlay {
		return err
	}
	holder, taken, err := i.Probe(ctx, network, addr)
	if err == nil && !taken {
		return nil
	}
	record := i.freed()
	if taken {
		record = records.Address{Kind: records.KindForeign, Name: holder.String()}
		err = fmt.Errorf("address %s %s is %w by the machine %s: start the container with another --ip", addr, i.place(ctx, t), errForeign, holder)
	}
	_, failed := i.Store.Commit(context.WithoutCancel(ctx), kvstore.Txn{
		If:   []kvstore.Guard{pool, kvstore.Unchanged(kvstore.Item{Key: key, Revision: revision})},
		Then: []kvstore.Op{kvstore.Put(key, record)},
	})
	if errors.Is(failed, kvstore.ErrConflict) {
		failed = nil // the network is gone, and the claim with it
	}
	return errors.Join(err, failed)
}

// network is the one that the pool belongs to; the zero one if it has none yet.
func (i *IPAM) network(ctx context.Context, t target) (fabric.Network, error) {
	if t.pool.Network == "" {
		return fabric.Network{}, nil
	}
	found, _, err := kvstore.Read[fabric.Network](ctx, i.Store, records.NetworkKey(t.pool.Network))
	if errors.Is(err, kvstore.ErrNotFound) {
		return fabric.Network{}, fmt.Errorf("network %s was removed from the cluster: remove it here and create it again", t.pool.Network)
	}
	return found, err
}
