package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// records are the writes that handlers and the loop share.
type recordWriter struct {
	store kvstore.Store
	host  string
	// while are guards of every write.
	while []kvstore.Guard
}

// erase removes this host's endpoint; with free, its addresses rest at once. An
// endpoint that is not there, or is another host's, is left alone.
func (r recordWriter) erase(ctx context.Context, network, id string, free bool) error {
	for range tries { // the mirror may be writing its name
		err := r.tryErase(ctx, network, id, free)
		if !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("endpoint %.12s: %w too often, try again", id, kvstore.ErrConflict)
}

func (r recordWriter) tryErase(ctx context.Context, network, id string, free bool) error {
	key := records.EndpointKey(network, id)
	endpoint, item, err := kvstore.Read[fabric.Endpoint](ctx, r.store, key)
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if endpoint.Host != r.host {
		return nil
	}
	txn := kvstore.Txn{
		If:   append(slices.Clone(r.while), kvstore.Unchanged(item)),
		Then: []kvstore.Op{kvstore.Delete(key)},
	}
	if free {
		if err := r.rest(ctx, endpoint, &txn); err != nil {
			return err
		}
	}
	_, err = r.store.Commit(ctx, txn)
	return err
}

// rest adds to txn that the addresses which endpoint still holds are freed.
func (r recordWriter) rest(ctx context.Context, endpoint fabric.Endpoint, txn *kvstore.Txn) error {
	network, _, err := kvstore.Read[fabric.Network](ctx, r.store, records.NetworkKey(endpoint.Network))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, address := range endpoint.Addrs {
		subnet, ok := subnetOf(network, address.Addr())
		if !ok {
			continue
		}
		item, err := r.store.Get(ctx, records.AddressKey(subnet.Pool, address.Addr()))
		if errors.Is(err, kvstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if holder, err := kvstore.Decode[records.Address](item); err != nil || holder.Endpoint != endpoint.ID {
			continue
		}
		txn.If = append(txn.If, kvstore.Unchanged(item))
		txn.Then = append(txn.Then, kvstore.Put(item.Key, records.Freed(time.Now())))
	}
	return nil
}

// orphans are the addresses of network that this host claimed and no endpoint has.
func (r recordWriter) orphans(ctx context.Context, network fabric.Network) ([]kvstore.Item, error) {
	endpoints, err := r.store.List(ctx, records.NetworkEndpoints(network.ID))
	if err != nil {
		return nil, err
	}
	var found []kvstore.Item
	for _, subnet := range network.Subnets {
		addresses, err := r.store.List(ctx, records.PoolAddresses(subnet.Pool))
		if err != nil {
			return nil, err
		}
		for _, item := range addresses.Items {
			address, err := kvstore.Decode[records.Address](item)
			if err != nil || address.Kind != records.KindEndpoint || address.Host != r.host {
				continue
			}
			if _, there := endpoints.Items[records.EndpointKey(network.ID, address.Endpoint)]; !there {
				found = append(found, item)
			}
		}
	}
	return found, nil
}
