package records

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

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
	pools, snapshot, err := r.pools(ctx)
	if err != nil {
		return "", pool, err
	}
	if want.Prefix.Addr().IsUnspecified() {
		if want.Prefix, err = pickPrefix(pools, want); err != nil {
			return "", pool, err
		}
	}
	id = PoolID(want.Space, want.Prefix)
	key := PoolKey(id)
	pool, there := pools[id]
	txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(snapshot.Items[key])}}
	if !there {
		if other, clash := Overlapping(pools, want.Space, want.Prefix); clash {
			return "", pool, fmt.Errorf("subnet %s overlaps %s of %s: take another, or put it in an address space of its own with --ipam-opt space=NAME",
				want.Prefix, other.Prefix, r.poolHolder(ctx, other))
		}
		pool = Pool{Space: want.Space, Prefix: want.Prefix}
		txn.If = []kvstore.Guard{kvstore.NoneNewer(PoolsPrefix, snapshot.Revision), kvstore.Missing(key)}
	}
	if !r.use(&pool, want.Global) {
		return id, pool, nil
	}
	txn.Then = []kvstore.Op{kvstore.Put(key, pool)}
	_, err = r.Store.Commit(ctx, txn)
	return id, pool, err
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

// use adds a use of the pool by this host, unless the request is a repeated one; it
// says whether it did. In a pool of other drivers each request is a use, because two
// of their networks may have one subnet and engines do not say for which they ask; a
// request whose answer was lost keeps that pool for good. Swarm repeats requests, its
// leaders when they start and its nodes after a crash; and the pool of a network of
// causeway's is deleted with the network, however often it was requested.
func (r Records) use(pool *Pool, global bool) bool {
	once := global || pool.Network != "" || len(pool.Global) > 0
	if once && r.uses(*pool, global) > 0 {
		return false
	}
	pool.Users = append(pool.Users, r.Host)
	if global {
		pool.Global = append(pool.Global, r.Host)
	}
	if pool.Requested == nil {
		pool.Requested = make(map[string]time.Time)
	}
	pool.Requested[r.Host] = r.now().UTC()
	return true
}

// unuse deletes a use of the pool, and says whether this host had one.
func (r Records) unuse(pool *Pool, global bool) bool {
	if r.uses(*pool, global) == 0 {
		return false
	}
	at := slices.Index(pool.Users, r.Host)
	pool.Users = slices.Delete(pool.Users, at, at+1)
	if global {
		pool.Global = slices.DeleteFunc(pool.Global, func(host string) bool { return host == r.Host })
	}
	if !slices.Contains(pool.Users, r.Host) {
		delete(pool.Requested, r.Host)
	}
	return true
}

// uses counts this host's uses of the pool in one of the address spaces.
func (r Records) uses(pool Pool, global bool) int {
	inGlobal := slices.Contains(pool.Global, r.Host)
	if global {
		if inGlobal {
			return 1
		}
		return 0
	}
	uses := 0
	for _, user := range pool.Users {
		if user == r.Host {
			uses++
		}
	}
	if inGlobal {
		uses--
	}
	return uses
}

// ReleasePool ends a use that this host has of a pool. One that belongs to a
// network of causeway's is deleted with the network, another with its last use.
// An unknown one is a success.
func (r Records) ReleasePool(ctx context.Context, id string, global bool) error {
	key := PoolKey(id)
	return kvstore.Retry(ctx, "pool "+id, func() error {
		pool, item, err := kvstore.Read[Pool](ctx, r.Store, key)
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		used := r.unuse(&pool, global)
		then := []kvstore.Op{kvstore.Put(key, pool)}
		if pool.Network == "" && len(pool.Users) == 0 {
			then = []kvstore.Op{kvstore.Delete(key), kvstore.DeletePrefix(PoolAddresses(id)), kvstore.DeletePrefix(PoolBlocks(id))}
		} else if !used {
			return nil
		}
		_, err = r.Store.Commit(ctx, kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: then})
		return err
	})
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
