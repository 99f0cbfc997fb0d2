package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// errForeign says that a machine on the wire has the address, though no record does.
var errForeign = errors.New("in use on the wire")

// take claims an address and, on an underlay network, asks the wire whether a
// machine that nobody knows of has it. One that has is remembered, and the error
// is errForeign. The claim comes first: two hosts never probe for one address,
// and so never take each other for its holder.
func (i *IPAM) take(ctx context.Context, t target, addr netip.Addr, guard kvstore.Guard, claim kvstore.Address) error {
	key := kvstore.AddressKey(t.key, addr)
	_, err := i.Store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(kvstore.PoolKey(t.key)), guard},
		Then: []kvstore.Op{kvstore.Put(key, claim)},
	})
	if err != nil || i.Probe == nil || claim.Kind != kvstore.KindEndpoint {
		return err
	}
	network, err := i.network(ctx, t)
	if err != nil || network.Mode != fabric.ModeUnderlay {
		return err
	}
	holder, taken, err := i.Probe(ctx, network, addr)
	if err == nil && !taken {
		return nil
	}
	record := i.freed()
	if taken {
		record = kvstore.Address{Kind: kvstore.KindForeign, Name: holder.String()}
		err = fmt.Errorf("address %s of pool %s: %w by the machine %s", addr, t.pool.Prefix, errForeign, holder)
	}
	_, failed := i.Store.Commit(context.WithoutCancel(ctx), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, record)}})
	return errors.Join(err, failed)
}

// network is the one that the pool belongs to; the zero one if it has none yet.
func (i *IPAM) network(ctx context.Context, t target) (fabric.Network, error) {
	if t.pool.Network == "" {
		return fabric.Network{}, nil
	}
	item, err := i.Store.Get(ctx, kvstore.NetworkKey(t.pool.Network))
	if err != nil {
		return fabric.Network{}, err
	}
	return kvstore.Decode[fabric.Network](item)
}
