package records

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// SubnetOf finds the subnet of network that addr belongs to.
func SubnetOf(network fabric.Network, addr netip.Addr) (fabric.Subnet, bool) {
	for _, subnet := range network.Subnets {
		if subnet.Prefix.Contains(addr) {
			return subnet, true
		}
	}
	return fabric.Subnet{}, false
}

// Endpoint reads one endpoint of a network.
func (r Records) Endpoint(ctx context.Context, network, id string) (fabric.Endpoint, error) {
	endpoint, _, err := kvstore.Read[fabric.Endpoint](ctx, r.Store, EndpointKey(network, id))
	return endpoint, err
}

// PutEndpoint claims the endpoint's addresses and records it, in one transaction;
// it returns the store's revision after. dockerID is the Docker network that it is on,
// which must be attached still; empty: that is not looked at. dockerIPAM says that
// Docker's own allocator gave the addresses; dead is then asked whether an endpoint of
// this host that has one of them is gone, whose place is taken. A host that has an
// address is named in the error.
//
// Nothing is read where the addresses are as this process remembers them, or have no
// record: the transaction is guarded by that.
func (r Records) PutEndpoint(ctx context.Context, network fabric.Network, endpoint fabric.Endpoint, dockerID string, dockerIPAM bool,
	dead func(ctx context.Context, endpoint string) (bool, error),
) (revision int64, err error) {
	what := fmt.Sprintf("endpoint on network %s", network.Label())
	err = kvstore.RetryRecalled(ctx, what, func(ctx context.Context) error {
		txn := kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Exists(NetworkKey(network.ID))},
			Then: []kvstore.Op{kvstore.Put(EndpointKey(network.ID, endpoint.ID), endpoint)},
		}
		if dockerID != "" {
			if !kvstore.Recalls(ctx) {
				if _, _, err := r.Attached(ctx, dockerID); err != nil {
					return err
				}
			}
			txn.If = append(txn.If, kvstore.Exists(AttachmentKey(r.Host, dockerID)))
		}
		for _, address := range endpoint.Addrs {
			if err := r.claim(ctx, network, endpoint, address.Addr(), dockerIPAM, dead, &txn); err != nil {
				return err
			}
		}
		revision, err = r.Store.Commit(ctx, txn)
		return err
	})
	return revision, err
}

// claim adds one address to the endpoint's transaction, or says who has it.
func (r Records) claim(ctx context.Context, network fabric.Network, endpoint fabric.Endpoint, addr netip.Addr, dockerIPAM bool,
	dead func(context.Context, string) (bool, error), txn *kvstore.Txn,
) error {
	subnet, _ := SubnetOf(network, addr)
	key := AddressKey(subnet.Pool, addr)
	taken := Address{Kind: KindEndpoint, Host: r.Host, Endpoint: endpoint.ID, Name: endpoint.Name}
	holder, item, err := kvstore.Read[Address](kvstore.Guess(ctx), r.Store, key)
	if errors.Is(err, kvstore.ErrNotFound) {
		txn.If = append(txn.If, kvstore.Missing(key))
		txn.Then = append(txn.Then, kvstore.Put(key, taken))
		return nil
	}
	if err != nil {
		return err
	}
	free, err := r.claimable(ctx, network.ID, endpoint.ID, holder, dockerIPAM, dead)
	if err != nil {
		return err
	}
	if !free {
		if err := unlessRecalled(ctx); err != nil {
			return err
		}
		return r.inUse(ctx, network, subnet, addr, holder, dockerIPAM)
	}
	if taken.Name == "" && holder.Endpoint == "" {
		taken.Name = holder.Name
	}
	txn.If = append(txn.If, kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.Put(key, taken))
	if old := holder.Endpoint; old != "" && old != endpoint.ID {
		txn.Then = append(txn.Then, kvstore.Delete(EndpointKey(network.ID, old)))
	}
	return nil
}

// claimable says whether this host may put endpoint on an address that holder
// has: it is quarantined, or it was requested for this very call, here or by
// swarm's leader, or its endpoint is gone. An engine that crashed tells no driver
// of its dead endpoints, and its own allocator gives their addresses out again.
func (r Records) claimable(ctx context.Context, network, endpoint string, holder Address, dockerIPAM bool,
	dead func(context.Context, string) (bool, error),
) (bool, error) {
	switch {
	case holder.Kind == KindFree, holder.Kind == KindEndpoint && holder.Host == "":
		return true, nil
	case holder.Kind != KindEndpoint || holder.Host != r.Host:
		return false, nil
	case holder.Endpoint == "" || holder.Endpoint == endpoint:
		return true, nil
	}
	_, err := r.Store.Get(ctx, EndpointKey(network, holder.Endpoint))
	if errors.Is(err, kvstore.ErrNotFound) {
		return true, nil
	}
	if err != nil || !dockerIPAM {
		return false, err
	}
	return dead(ctx, holder.Endpoint)
}

// DeleteEndpoint deletes this host's endpoint; with release, its addresses are
// quarantined in the same transaction, and released are their keys. Of network the ID
// will do, then the rest is read. An endpoint that is not there, or is another host's,
// is left alone. ErrConflict says that While no longer holds.
func (r Records) DeleteEndpoint(ctx context.Context, network fabric.Network, id string, release bool) (released []string, err error) {
	var stopped error
	err = kvstore.RetryRecalled(ctx, fmt.Sprintf("endpoint %.12s", id), func(ctx context.Context) (err error) { // the mirror may be writing its name
		released, err = r.tryDeleteEndpoint(ctx, network, id, release)
		if errors.Is(err, kvstore.ErrConflict) && len(r.While) > 0 {
			if _, stopped = r.Store.Commit(ctx, kvstore.Txn{If: r.While}); stopped != nil {
				return nil
			}
		}
		return err
	})
	return released, errors.Join(err, stopped)
}

func (r Records) tryDeleteEndpoint(ctx context.Context, network fabric.Network, id string, release bool) (released []string, err error) {
	endpoint, item, err := kvstore.Read[fabric.Endpoint](ctx, r.Store, EndpointKey(network.ID, id))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if endpoint.Host != r.Host {
		return nil, unlessRecalled(ctx)
	}
	txn := r.guarded(kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.Delete(item.Key))
	if release {
		if released, err = r.release(ctx, network, endpoint, &txn); err != nil {
			return nil, err
		}
	}
	_, err = r.Store.Commit(ctx, txn)
	return released, err
}

// release adds to txn that the addresses which endpoint still holds are quarantined,
// and gives their keys.
func (r Records) release(ctx context.Context, network fabric.Network, endpoint fabric.Endpoint, txn *kvstore.Txn) (released []string, err error) {
	if len(network.Subnets) == 0 {
		network, err = r.Network(ctx, network.ID)
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	for _, address := range endpoint.Addrs {
		subnet, ok := SubnetOf(network, address.Addr())
		if !ok {
			continue
		}
		item, err := r.Store.Get(ctx, AddressKey(subnet.Pool, address.Addr()))
		if errors.Is(err, kvstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		txn.If = append(txn.If, kvstore.Unchanged(item))
		if holder, err := kvstore.Decode[Address](item); err == nil && holder.Endpoint == endpoint.ID {
			txn.Then = append(txn.Then, kvstore.Put(item.Key, Freed(r.now())))
			released = append(released, item.Key)
		}
	}
	return released, nil
}

// ReleaseClaim quarantines a claimed address, unless it changed since item was read.
func (r Records) ReleaseClaim(ctx context.Context, item kvstore.Item) error {
	txn := r.guarded(kvstore.Unchanged(item))
	txn.Then = []kvstore.Op{kvstore.Put(item.Key, Freed(r.now()))}
	_, err := r.Store.Commit(ctx, txn)
	return err
}
