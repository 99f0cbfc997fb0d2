package records

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// Use is what one host's Docker has of a pool, so that hosts which request one pool
// at once write no record in common.
type Use struct {
	// Uses counts the requests in the local address space that were not released.
	Uses int `json:"uses,omitempty"`
	// Global says that the pool was requested in the global one, as swarm's leaders do.
	Global    bool      `json:"global,omitempty"`
	Requested time.Time `json:"requested,omitzero"`
}

// anyHost stands in Pool.Users and Pool.Global for the hosts that have a [Use]. Older
// versions, which keep all users in the pool's record, do not delete such a pool.
const anyHost = "*"

// ownUse is this host's use of a pool, with what an older version noted in the pool's
// record; moved says that it is taken out of there, and both are to be written.
func (r Records) ownUse(pool *Pool, item kvstore.Item) (use Use, moved bool, err error) {
	if item.Key != "" {
		if use, err = kvstore.Decode[Use](item); err != nil {
			return use, false, err
		}
	}
	mine := func(host string) bool { return host == r.Host }
	old := *pool
	pool.Users = slices.DeleteFunc(slices.Clone(old.Users), mine)
	pool.Global = slices.DeleteFunc(slices.Clone(old.Global), mine)
	uses, global := len(old.Users)-len(pool.Users), len(old.Global) > len(pool.Global)
	if uses == 0 {
		return use, false, nil
	}
	if global {
		uses--
		pool.Global = append(pool.Global, anyHost)
	}
	use.Uses, use.Global, use.Requested = use.Uses+uses, use.Global || global, latest(use.Requested, old.Requested[r.Host])
	pool.Requested = maps.Clone(old.Requested)
	delete(pool.Requested, r.Host)
	return use, true, nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// add adds a use of the pool, unless the request is a repeated one; it says whether
// it did. In a pool of other drivers each request is a use, because two of their
// networks may have one subnet and engines do not say for which they ask; a request
// whose answer was lost keeps that pool for good. Swarm repeats requests, its leaders
// when they start and its nodes after a crash; and the pool of a network of causeway's
// is deleted with the network, however often it was requested.
func (u *Use) add(pool Pool, global bool, now time.Time) bool {
	once := global || pool.Network != "" || len(pool.Global) > 0
	if once && (global && u.Global || !global && u.Uses > 0) {
		return false
	}
	if global {
		u.Global = true
	} else {
		u.Uses++
	}
	u.Requested = now.UTC()
	return true
}

// remove ends a use, and says whether there was one.
func (u *Use) remove(global bool) bool {
	switch {
	case global && u.Global:
		u.Global = false
	case !global && u.Uses > 0:
		u.Uses--
	default:
		return false
	}
	return true
}

func (u Use) none() bool { return u.Uses == 0 && !u.Global }

// unlessChanged holds while the record under key is as it was read: item is zero
// where there was none.
func unlessChanged(key string, item kvstore.Item) kvstore.Guard {
	if item.Key == "" {
		return kvstore.Missing(key)
	}
	return kvstore.Unchanged(item)
}

// poolUsers are the hosts that use a pool, and the revision at which they were read.
// One of an older version is in the pool's record; so is the network's creator,
// without a use, where Docker's own allocator gave the subnet.
func (r Records) poolUsers(ctx context.Context, pool Pool) (users map[string]Use, revision int64, err error) {
	prefix := PoolUsers(PoolID(pool.Space, pool.Prefix))
	snapshot, err := r.Store.List(ctx, prefix)
	if err != nil {
		return nil, 0, err
	}
	users = make(map[string]Use, len(snapshot.Items))
	for key, item := range snapshot.Items {
		users[key[len(prefix):]], _ = kvstore.Decode[Use](item) // what cannot be read is a user all the same
	}
	for _, host := range pool.Users {
		if host == anyHost {
			continue
		}
		use := users[host]
		use.Uses, use.Requested = use.Uses+1, latest(use.Requested, pool.Requested[host])
		users[host] = use
	}
	for _, host := range pool.Global {
		if use, ok := users[host]; ok {
			use.Uses, use.Global = use.Uses-1, true
			users[host] = use
		}
	}
	return users, snapshot.Revision, nil
}

// releaseBlocks gives back the blocks that this host has of a pool.
func (r Records) releaseBlocks(ctx context.Context, pool string) error {
	blocks, err := r.blocks(ctx, pool)
	if err != nil {
		return err
	}
	blocks = slices.DeleteFunc(blocks, func(block ownBlock) bool { return block.Host != r.Host })
	for some := range slices.Chunk(blocks, maxWrites) {
		txn := r.guarded()
		for _, block := range some {
			txn.If = append(txn.If, kvstore.Unchanged(block.item))
			txn.Then = append(txn.Then, kvstore.Delete(block.item.Key))
		}
		if _, err := r.Store.Commit(ctx, txn); err != nil && !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return nil
}
