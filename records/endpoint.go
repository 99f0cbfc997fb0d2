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
// it returns the store's revision after. dockerIPAM says that Docker's own
// allocator gave the addresses; dead is then asked whether an endpoint of this
// host that has one of them is gone, whose place is taken. A host that has an
// address is named in the error.
func (r Records) PutEndpoint(ctx context.Context, network fabric.Network, endpoint fabric.Endpoint, dockerIPAM bool,
	dead func(ctx context.Context, endpoint string) (bool, error),
) (revision int64, err error) {
	err = kvstore.Retry(ctx, fmt.Sprintf("endpoint on network %s", network.Label()), func() error {
		txn := kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Exists(NetworkKey(network.ID))},
			Then: []kvstore.Op{kvstore.Put(EndpointKey(network.ID, endpoint.ID), endpoint)},
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
	holder, item, err := kvstore.Read[Address](ctx, r.Store, key)
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
// quarantined at once. One that is not there, or is another host's, is left alone.
// ErrConflict says that While no longer holds.
func (r Records) DeleteEndpoint(ctx context.Context, network, id string, release bool) error {
	var stopped error
	err := kvstore.Retry(ctx, fmt.Sprintf("endpoint %.12s", id), func() error { // the mirror may be writing its name
		err := r.tryDeleteEndpoint(ctx, network, id, release)
		if errors.Is(err, kvstore.ErrConflict) && len(r.While) > 0 {
			if _, stopped = r.Store.Commit(ctx, kvstore.Txn{If: r.While}); stopped != nil {
				return nil
			}
		}
		return err
	})
	return errors.Join(err, stopped)
}

func (r Records) tryDeleteEndpoint(ctx context.Context, network, id string, release bool) error {
	endpoint, item, err := kvstore.Read[fabric.Endpoint](ctx, r.Store, EndpointKey(network, id))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil || endpoint.Host != r.Host {
		return err
	}
	txn := r.guarded(kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.Delete(item.Key))
	if release {
		if err := r.release(ctx, endpoint, &txn); err != nil {
			return err
		}
	}
	_, err = r.Store.Commit(ctx, txn)
	return err
}

// release adds to txn that the addresses which endpoint still holds are quarantined.
func (r Records) release(ctx context.Context, endpoint fabric.Endpoint, txn *kvstore.Txn) error {
	network, err := r.Network(ctx, endpoint.Network)
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
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
			return err
		}
		if holder, err := kvstore.Decode[Address](item); err != nil || holder.Endpoint != endpoint.ID {
			continue
		}
		txn.If = append(txn.If, kvstore.Unchanged(item))
		txn.Then = append(txn.Then, kvstore.Put(item.Key, Freed(r.now())))
	}
	return nil
}

// ReleaseClaim quarantines a claimed address, unless it changed since item was read.
func (r Records) ReleaseClaim(ctx context.Context, item kvstore.Item) error {
	txn := r.guarded(kvstore.Unchanged(item))
	txn.Then = []kvstore.Op{kvstore.Put(item.Key, Freed(r.now()))}
	_, err := r.Store.Commit(ctx, txn)
	return err
}
