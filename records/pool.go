package records

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// BindPools adds to the transaction that makes network: each subnet's pool is
// bound to it, its gateway and aux addresses are claimed. It sets Subnet.Pool.
// The pools are those that causeway's IPAM made for this host a moment ago, or
// new ones where dockerIPAM says that the addresses come from Docker's allocator.
func (r Records) BindPools(ctx context.Context, network *fabric.Network, dockerIPAM bool, txn *kvstore.Txn) error {
	snapshot, err := r.Store.List(ctx, PoolsPrefix)
	if err != nil {
		return err
	}
	pools, err := kvstore.DecodeAll[Pool](snapshot, PoolsPrefix)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.NoneNewer(PoolsPrefix, snapshot.Revision))
	for i := range network.Subnets {
		subnet := &network.Subnets[i]
		pool, id := r.requestedPool(pools, subnet.Prefix)
		if id == "" {
			pool = Pool{Space: DefaultSpace, Prefix: subnet.Prefix}
			id = PoolID(pool.Space, pool.Prefix)
			if other, clash := Overlapping(pools, pool.Space, pool.Prefix); clash {
				return fmt.Errorf("subnet %s overlaps %s of network %s: give another --subnet, or have one picked by --ipam-driver causeway",
					pool.Prefix, other.Prefix, r.networkName(ctx, other.Network))
			}
		}
		subnet.Pool = id
		pool.Network, pool.DockerIPAM = network.ID, dockerIPAM
		txn.Then = append(txn.Then, kvstore.Put(PoolKey(id), pool))
		txn.Then = append(txn.Then, r.reserve(*subnet)...)
	}
	return nil
}

// requestedPool finds the pool of prefix that this host's Docker has requested
// and no network has yet.
func (r Records) requestedPool(pools map[string]Pool, prefix netip.Prefix) (Pool, string) {
	for id, pool := range pools {
		if pool.Prefix == prefix && pool.Network == "" && slices.Contains(pool.Users, r.Host) {
			return pool, id
		}
	}
	return Pool{}, ""
}

// reserve claims the gateway and the aux addresses of a new network.
func (r Records) reserve(subnet fabric.Subnet) []kvstore.Op {
	var ops []kvstore.Op
	if subnet.Gateway.IsValid() {
		ops = append(ops, kvstore.Put(AddressKey(subnet.Pool, subnet.Gateway), Address{Kind: KindGateway, Host: r.Host}))
	}
	for name, addr := range subnet.Aux {
		if addr != subnet.Gateway {
			ops = append(ops, kvstore.Put(AddressKey(subnet.Pool, addr), Address{Kind: KindAux, Host: r.Host, Name: name}))
		}
	}
	return ops
}

// SharePools adds to txn that an engine's own allocator uses the network's pools.
func (r Records) SharePools(ctx context.Context, network fabric.Network, txn *kvstore.Txn) error {
	for _, subnet := range network.Subnets {
		pool, item, err := kvstore.Read[Pool](ctx, r.Store, PoolKey(subnet.Pool))
		if err != nil {
			return err
		}
		if !pool.DockerIPAM {
			pool.DockerIPAM = true
			txn.If = append(txn.If, kvstore.Unchanged(item))
			txn.Then = append(txn.Then, kvstore.Put(item.Key, pool))
		}
	}
	return nil
}
