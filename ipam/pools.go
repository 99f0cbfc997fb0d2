package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Where subnets are picked from when the user gives none: a part of RFC 1918's
// that Docker's own pools leave alone, and a unique local prefix (RFC 4193).
const (
	picks4 = "10.128.0.0/9"
	picks6 = "fd8c:3a5e:71c4::/48"
)

// requestPool makes the pool that want describes, or shares the one that is
// there; where any will do, want is told which it is.
func (i *IPAM) requestPool(ctx context.Context, want *poolRequest) (poolID, error) {
	asked := want.prefix
	for range tries {
		want.prefix = asked
		id, err := i.tryPool(ctx, want)
		if !errors.Is(err, kvstore.ErrConflict) {
			return id, err
		}
	}
	return poolID{}, fmt.Errorf("subnet %s: %w too often, try again", asked, kvstore.ErrConflict)
}

func (i *IPAM) tryPool(ctx context.Context, want *poolRequest) (poolID, error) {
	snapshot, err := i.Store.List(ctx, records.PoolsPrefix)
	if err != nil {
		return poolID{}, err
	}
	pools, err := kvstore.DecodeAll[records.Pool](snapshot, records.PoolsPrefix)
	if err != nil {
		return poolID{}, err
	}
	if want.prefix.Addr().IsUnspecified() {
		if want.prefix, err = i.pick(pools, *want); err != nil {
			return poolID{}, err
		}
	}
	id := poolID{key: records.PoolID(want.space, want.prefix), global: want.global, within: want.within}
	key := records.PoolKey(id.key)
	if pool, there := pools[id.key]; there {
		if !i.use(&pool, want.global) {
			return id, nil
		}
		_, err := i.Store.Commit(ctx, kvstore.Txn{
			If: []kvstore.Guard{kvstore.Unchanged(snapshot.Items[key])}, Then: []kvstore.Op{kvstore.Put(key, pool)},
		})
		return id, err
	}
	if other, clash := records.Overlapping(pools, want.space, want.prefix); clash {
		return poolID{}, fmt.Errorf("subnet %s overlaps %s of %s: take another, or put it in an address space of its own with --ipam-opt space=NAME",
			want.prefix, other.Prefix, i.holder(ctx, other))
	}
	pool := records.Pool{Space: want.space, Prefix: want.prefix}
	i.use(&pool, want.global)
	_, err = i.Store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{kvstore.NoneNewer(records.PoolsPrefix, snapshot.Revision), kvstore.Missing(key)},
		Then: []kvstore.Op{kvstore.Put(key, pool)},
	})
	return id, err
}

// pick finds a free subnet of the length that is wanted.
func (i *IPAM) pick(pools map[string]records.Pool, want poolRequest) (netip.Prefix, error) {
	from := netip.MustParsePrefix(picks4)
	if want.prefix.Addr().Is6() {
		from = netip.MustParsePrefix(picks6)
	}
	if want.prefix.Bits() < from.Bits() {
		return netip.Prefix{}, fmt.Errorf("a subnet of length /%d is picked from %s, which is too small: give --subnet", want.prefix.Bits(), from)
	}
	candidate := netip.PrefixFrom(from.Addr(), want.prefix.Bits())
	for from.Contains(candidate.Addr()) {
		taken := i.VTEPNet
		if other, clash := records.Overlapping(pools, want.space, candidate); clash {
			taken = other.Prefix
		} else if !candidate.Overlaps(i.VTEPNet) {
			return candidate, nil
		}
		if taken.Bits() > candidate.Bits() {
			taken = candidate
		}
		candidate = netip.PrefixFrom(records.LastOf(taken).Next(), candidate.Bits())
	}
	return netip.Prefix{}, fmt.Errorf("no subnet of length /%d is free in %s: give --subnet", want.prefix.Bits(), from)
}

// holder says who has a pool.
func (i *IPAM) holder(ctx context.Context, pool records.Pool) string {
	if pool.Network == "" {
		return fmt.Sprintf("a network on %v", slices.Compact(slices.Sorted(slices.Values(pool.Users))))
	}
	found, _, err := kvstore.Read[fabric.Network](ctx, i.Store, records.NetworkKey(pool.Network))
	if err != nil || found.Name == "" {
		return "network " + pool.Network
	}
	return "network " + found.Name
}

// use adds a use of the pool by this host, unless it is one that is asked for
// again. Two networks of other drivers may have one subnet, and engines do not
// say for which they ask: each request is a use there, and one whose answer got
// lost keeps the pool for good. Swarm is known to repeat itself, its leaders when
// they start and its nodes after a crash; and no use keeps a network's own pool.
func (i *IPAM) use(pool *records.Pool, global bool) bool {
	once := global || pool.Network != "" || len(pool.Global) > 0
	if once && i.uses(*pool, global) > 0 {
		return false
	}
	pool.Users = append(pool.Users, i.Host)
	if global {
		pool.Global = append(pool.Global, i.Host)
	}
	return true
}

// unuse takes a use of the pool away, and says whether this host had one.
func (i *IPAM) unuse(pool *records.Pool, global bool) bool {
	if i.uses(*pool, global) == 0 {
		return false
	}
	at := slices.Index(pool.Users, i.Host)
	pool.Users = slices.Delete(pool.Users, at, at+1)
	if global {
		pool.Global = slices.DeleteFunc(pool.Global, func(host string) bool { return host == i.Host })
	}
	return true
}

// uses counts this host's uses of the pool in one of the address spaces.
func (i *IPAM) uses(pool records.Pool, global bool) int {
	uses := 0
	for _, user := range pool.Users {
		if user == i.Host {
			uses++
		}
	}
	switch inGlobal := slices.Contains(pool.Global, i.Host); {
	case global && inGlobal:
		return 1
	case global:
		return 0
	case inGlobal:
		return uses - 1
	}
	return uses
}

// releasePool ends a use that this host has of a pool. One that belongs to a
// network of causeway's goes with the network; another's goes with its last use.
// An unknown one is a success.
func (i *IPAM) releasePool(ctx context.Context, text string) error {
	id, err := parsePoolID(text)
	if err != nil {
		return err
	}
	key := records.PoolKey(id.key)
	for range tries {
		pool, item, err := kvstore.Read[records.Pool](ctx, i.Store, key)
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		used := i.unuse(&pool, id.global)
		then := []kvstore.Op{kvstore.Put(key, pool)}
		if pool.Network == "" && len(pool.Users) == 0 {
			then = []kvstore.Op{kvstore.Delete(key), kvstore.DeletePrefix(records.PoolAddresses(id.key))}
		} else if !used {
			return nil
		}
		_, err = i.Store.Commit(ctx, kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: then})
		if !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("pool %s: %w too often, try again", id.key, kvstore.ErrConflict)
}
