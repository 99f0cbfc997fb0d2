package records

import (
	"context"
	"errors"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// RestoreNetwork creates a network that the store has lost as it was: its ID,
// name, VNI, pools, gateways and aux addresses. Where the store has it, nothing
// is changed. It is refused where another network has its name or its VNI, or
// one of its subnets.
func (r Records) RestoreNetwork(ctx context.Context, network fabric.Network) error {
	return kvstore.Retry(ctx, "network "+network.Label(), func() error {
		_, err := r.Store.Get(ctx, NetworkKey(network.ID))
		if err == nil || !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		txn := kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Missing(NetworkKey(network.ID))},
			Then: []kvstore.Op{kvstore.Put(NetworkKey(network.ID), network)},
		}
		unique := make(map[string]string) // what users call it, by key
		if network.Name != "" {
			unique[NameKey(network.Name)] = "name"
		}
		if network.VNI != 0 {
			unique[VNIKey(network.VNI)] = fmt.Sprintf("vni %d", network.VNI)
		}
		for key, what := range unique {
			other, _, err := kvstore.Read[string](ctx, r.Store, key)
			if err == nil {
				return fmt.Errorf("its %s is taken by network %s", what, other)
			}
			if !errors.Is(err, kvstore.ErrNotFound) {
				return err
			}
			txn.If = append(txn.If, kvstore.Missing(key))
			txn.Then = append(txn.Then, kvstore.Put(key, network.ID))
		}
		if err := r.restorePools(ctx, network, &txn); err != nil {
			return err
		}
		_, err = r.Store.Commit(ctx, txn)
		return err
	})
}

// restorePools adds to txn that the network's pools are created as they were.
func (r Records) restorePools(ctx context.Context, network fabric.Network, txn *kvstore.Txn) error {
	pools, snapshot, err := r.pools(ctx)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.NoneNewer(PoolsPrefix, snapshot.Revision))
	for _, subnet := range network.Subnets {
		space, prefix, err := parsePoolID(subnet.Pool)
		if err != nil {
			return fmt.Errorf("its pool %q: %w", subnet.Pool, err)
		}
		if other, clash := Overlapping(pools, space, prefix); clash {
			return fmt.Errorf("its subnet %s overlaps %s of %s", prefix, other.Prefix, r.poolHolder(ctx, other))
		}
		txn.Then = append(txn.Then, kvstore.Put(PoolKey(subnet.Pool), Pool{Space: space, Prefix: prefix, Network: network.ID, Users: []string{anyHost}}))
		txn.Then = append(txn.Then, r.reserve(subnet)...)
	}
	return nil
}

// RestoreAttachment attaches this host's Docker network again to a network that
// was restored, with its use of the pools.
func (r Records) RestoreAttachment(ctx context.Context, network fabric.Network, a Attaching) error {
	return kvstore.Retry(ctx, "network "+network.Label(), func() error {
		a.Network = network.ID
		txn := kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Exists(NetworkKey(network.ID))},
			Then: []kvstore.Op{kvstore.Put(AttachmentKey(r.Host, a.DockerID), a.Attachment)},
		}
		if err := r.join(ctx, network.ID, a.Mirror, &txn); err != nil {
			return err
		}
		if a.DockerIPAM {
			if err := r.SharePools(ctx, network, &txn); err != nil {
				return err
			}
		} else {
			for _, subnet := range network.Subnets {
				txn.If = append(txn.If, kvstore.Exists(PoolKey(subnet.Pool)))
				txn.Then = append(txn.Then, kvstore.Put(UserKey(subnet.Pool, r.Host), Use{Uses: 1, Requested: r.now().UTC()}))
			}
		}
		_, err := r.Store.Commit(ctx, txn)
		return err
	})
}
