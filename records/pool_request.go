package records

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// PoolRequest is what an engine asks causeway's IPAM for.
type PoolRequest struct {
	// Space is where the pool is: pools of different spaces may overlap.
	Space string
	// Prefix has an unspecified address where any of its length will do.
	Prefix netip.Prefix
	// Global says that swarm's leader asks, for the whole cluster.
	Global bool
	// Avoid is a prefix that no pool is picked from.
	Avoid netip.Prefix
}

// RequestPool creates the pool that is asked for, or adds this host to the users
// of the one that is there. It returns the pool's ID.
func (r Records) RequestPool(ctx context.Context, want PoolRequest) (id string, pool Pool, err error) {
	err = kvstore.Retry(ctx, "subnet "+want.Prefix.String(), func() error {
		id, pool, err = r.tryRequestPool(ctx, want)
		return err
	})
	return id, pool, err
}

func (r Records) tryRequestPool(ctx context.Context, want PoolRequest) (id string, pool Pool, err error) {
	if want.Prefix.Addr().IsUnspecified() {
		pools, _, err := r.pools(ctx)
		if err != nil {
			return "", pool, err
		}
		if want.Prefix, err = pickPrefix(pools, want); err != nil {
			return "", pool, err
		}
	}
	id = PoolID(want.Space, want.Prefix)
	key, userKey := PoolKey(id), UserKey(id, r.Host)
	there, err := r.Store.GetAll(ctx, []string{key, userKey})
	if err != nil {
		return "", pool, err
	}
	txn := kvstore.Txn{If: []kvstore.Guard{unlessChanged(userKey, there.Items[userKey])}}
	if item, ok := there.Items[key]; ok {
		if pool, err = decodePool(id, item); err != nil {
			pool = Pool{Space: want.Space, Prefix: want.Prefix} // it still takes up what its key says
		}
	} else if pool, err = r.newPool(ctx, want, &txn); err != nil {
		return "", pool, err
	}
	use, moved, err := r.ownUse(&pool, there.Items[userKey])
	if err != nil {
		return "", pool, err
	}
	added := use.add(pool, want.Global, r.now())
	if !added && !moved {
		return id, pool, nil
	}
	txn.Then = []kvstore.Op{kvstore.Put(userKey, use)}
	told := slices.Contains(pool.Users, anyHost) && (!want.Global || len(pool.Global) > 0)
	if moved || !told {
		pool.Users = append(slices.DeleteFunc(pool.Users, isAnyHost), anyHost)
		if want.Global && len(pool.Global) == 0 {
			pool.Global = []string{anyHost}
		}
		txn.If = append(txn.If, unlessChanged(key, there.Items[key]))
		txn.Then = append(txn.Then, kvstore.Put(key, pool))
	} else {
		txn.If = append(txn.If, kvstore.Exists(key))
	}
	_, err = r.Store.Commit(ctx, txn)
	return id, pool, err
}

func isAnyHost(host string) bool { return host == anyHost }

// newPool is the pool that is wanted, where nothing overlaps it; txn guards that.
func (r Records) newPool(ctx context.Context, want PoolRequest, txn *kvstore.Txn) (Pool, error) {
	pools, snapshot, err := r.pools(ctx)
	if err != nil {
		return Pool{}, err
	}
	if _, there := pools[PoolID(want.Space, want.Prefix)]; there {
		return Pool{}, fmt.Errorf("pool %s: %w", want.Prefix, kvstore.ErrConflict)
	}
	if other, clash := Overlapping(pools, want.Space, want.Prefix); clash {
		return Pool{}, fmt.Errorf("subnet %s overlaps %s of %s: take another, or put it in an address space of its own with --ipam-opt space=NAME",
			want.Prefix, other.Prefix, r.poolHolder(ctx, other))
	}
	txn.If = append(txn.If, kvstore.NoneNewer(PoolsPrefix, snapshot.Revision))
	return Pool{Space: want.Space, Prefix: want.Prefix}, nil
}

// Where subnets are picked from when the user gives none: a part of RFC 1918's
// that Docker's own pools leave alone, and a unique local prefix (RFC 4193).
const (
	picks4 = "10.128.0.0/9"
	picks6 = "fd8c:3a5e:71c4::/48"
)

// pickPrefix finds a free subnet of the length that is wanted.
func pickPrefix(pools map[string]Pool, want PoolRequest) (netip.Prefix, error) {
	from := netip.MustParsePrefix(picks4)
	if want.Prefix.Addr().Is6() {
		from = netip.MustParsePrefix(picks6)
	}
	if want.Prefix.Bits() < from.Bits() {
		return netip.Prefix{}, fmt.Errorf("a subnet of length /%d is picked from %s, which is too small: give --subnet", want.Prefix.Bits(), from)
	}
	candidate := netip.PrefixFrom(from.Addr(), want.Prefix.Bits())
	for from.Contains(candidate.Addr()) {
		taken := want.Avoid
		if other, clash := Overlapping(pools, want.Space, candidate); clash {
			taken = other.Prefix
		} else if !candidate.Overlaps(want.Avoid) {
			return candidate, nil
		}
		if taken.Bits() > candidate.Bits() {
			taken = candidate
		}
		candidate = netip.PrefixFrom(LastOf(taken).Next(), candidate.Bits())
	}
	return netip.Prefix{}, fmt.Errorf("no subnet of length /%d is free in %s: give --subnet", want.Prefix.Bits(), from)
}

// ReleasePool ends a use that this host has of a pool, and with the last one gives its
// blocks back. A pool that belongs to a network of causeway's is deleted with the
// network, another with its last use. An unknown one is a success.
func (r Records) ReleasePool(ctx context.Context, id string, global bool) error {
	return kvstore.Retry(ctx, "pool "+id, func() error {
		key, userKey := PoolKey(id), UserKey(id, r.Host)
		there, err := r.Store.GetAll(ctx, []string{key, userKey})
		if err != nil {
			return err
		}
		item, ok := there.Items[key]
		if !ok {
			return nil
		}
		pool, err := decodePool(id, item)
		if err != nil {
			return err
		}
		use, moved, err := r.ownUse(&pool, there.Items[userKey])
		if err != nil {
			return err
		}
		removed := use.remove(global)
		txn := kvstore.Txn{If: []kvstore.Guard{unlessChanged(userKey, there.Items[userKey]), kvstore.Unchanged(item)}}
		if use.none() {
			if last, err := r.lastUse(ctx, id, pool, &txn); last || err != nil {
				return err
			}
			if err := r.releaseBlocks(ctx, id); err != nil {
				return err
			}
		}
		if !removed && !moved {
			return nil
		}
		if use.none() {
			txn.Then = append(txn.Then, kvstore.Delete(userKey))
		} else {
			txn.Then = append(txn.Then, kvstore.Put(userKey, use))
		}
		if moved {
			pool.Users = append(slices.DeleteFunc(pool.Users, isAnyHost), anyHost)
			txn.Then = append(txn.Then, kvstore.Put(key, pool))
		}
		_, err = r.Store.Commit(ctx, txn)
		return err
	})
}

// lastUse deletes a pool of other drivers that no other host uses, and says so.
func (r Records) lastUse(ctx context.Context, id string, pool Pool, txn *kvstore.Txn) (bool, error) {
	if pool.Network != "" {
		return false, nil
	}
	users, revision, err := r.poolUsers(ctx, pool)
	if err != nil {
		return false, err
	}
	delete(users, r.Host)
	if len(users) > 0 {
		return false, nil
	}
	_, err = r.Store.Commit(ctx, kvstore.Txn{
		If:   append(txn.If, kvstore.NoneNewer(PoolUsers(id), revision)),
		Then: deletePool(id),
	})
	return err == nil, err
}

// networkOf is the network that the pool belongs to; the zero one if it has none yet.
func (r Records) networkOf(ctx context.Context, pool Pool) (fabric.Network, error) {
	if pool.Network == "" {
		return fabric.Network{}, nil
	}
	network, err := r.Network(ctx, pool.Network)
	if errors.Is(err, kvstore.ErrNotFound) {
		return network, fmt.Errorf("network %s was removed from the cluster: remove it here and create it again", pool.Network)
	}
	return network, err
}
