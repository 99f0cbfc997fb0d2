package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// DefaultSpace is where pools are made unless the user names a space.
const DefaultSpace = "default"

// Overlapping finds a pool of space that shares addresses with prefix; the first by key.
func Overlapping(pools map[string]Pool, space string, prefix netip.Prefix) (Pool, bool) {
	for _, id := range slices.Sorted(maps.Keys(pools)) {
		if pool := pools[id]; pool.Space == space && pool.Prefix.Overlaps(prefix) {
			return pool, true
		}
	}
	return Pool{}, false
}

// decodePool reads the record of pool id: it must be of the CIDR that its key says.
func decodePool(id string, item kvstore.Item) (Pool, error) {
	pool, err := kvstore.Decode[Pool](item)
	if err == nil && PoolID(pool.Space, pool.Prefix) != id {
		err = fmt.Errorf("record %s is of %s in space %q", item.Key, pool.Prefix, pool.Space)
	}
	return pool, err
}

// pools reads all pools. One that cannot be used still takes up what its key says.
func (r Records) pools(ctx context.Context) (map[string]Pool, kvstore.Snapshot, error) {
	snapshot, err := r.Store.List(ctx, PoolsPrefix)
	if err != nil {
		return nil, snapshot, err
	}
	pools := make(map[string]Pool, len(snapshot.Items))
	for key, item := range snapshot.Items {
		id := key[len(PoolsPrefix):]
		pool, err := decodePool(id, item)
		if err != nil {
			pool = Pool{}
			if pool.Space, pool.Prefix, err = parsePoolID(id); err != nil {
				continue
			}
		}
		pools[id] = pool
	}
	return pools, snapshot, nil
}

// BindPools adds to the transaction that creates network: each subnet's pool is
// bound to it, its gateway and aux addresses are claimed. It sets Subnet.Pool.
// The pools are those that causeway's IPAM was asked for by this host a moment
// ago, or new ones where dockerIPAM says that the addresses come from Docker's
// own allocator.
func (r Records) BindPools(ctx context.Context, network *fabric.Network, dockerIPAM bool, txn *kvstore.Txn) error {
	pools, snapshot, err := r.pools(ctx)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.NoneNewer(PoolsPrefix, snapshot.Revision))
	space := DefaultSpace
	if dockerIPAM {
		if space, err = r.dockerSpace(ctx, pools, *network); err != nil {
			return err
		}
	}
	for i := range network.Subnets {
		subnet := &network.Subnets[i]
		pool := Pool{Space: space, Prefix: subnet.Prefix, Users: []string{anyHost}, Requested: map[string]time.Time{r.Host: r.now().UTC()}}
		if !dockerIPAM {
			if pool, err = r.requestedPool(ctx, pools, *network, subnet.Prefix); err != nil {
				return err
			}
		}
		id := PoolID(pool.Space, pool.Prefix)
		if other, clash := Overlapping(pools, pool.Space, pool.Prefix); clash && other.Network == network.ID {
			return fmt.Errorf("subnets %s and %s of the network overlap", pool.Prefix, other.Prefix)
		}
		subnet.Pool, pool.Network, pool.DockerIPAM = id, network.ID, dockerIPAM
		if network.Mode == fabric.ModeRouted {
			pool.BlockBits = routedBits(*network, pool)
		}
		pools[id] = pool
		txn.Then = append(txn.Then, kvstore.Put(PoolKey(id), pool))
		txn.Then = append(txn.Then, r.reserve(*subnet)...)
	}
	return nil
}

// routedBits is the length of the blocks of a routed network's pool.
func routedBits(network fabric.Network, pool Pool) int {
	if pool.Prefix.Addr().Is4() && network.Block != 0 {
		return max(network.Block, pool.Prefix.Bits())
	}
	return pool.blockBits()
}

// keptApart says whether networks of a mode may have equal subnets: their traffic is
// isolated.
func keptApart(mode fabric.Mode) bool { return mode.HasVNI() }

// spacePrefix begins the spaces of single networks.
const spacePrefix = "net."

// ownSpace is the space of a network whose subnets overlap another's. Its mirrors
// name it by --ipam-opt space.
func ownSpace(network fabric.Network) string { return spacePrefix + network.ID }

// InOwnSpace says whether the pool of an ID is in the space of a single network.
func InOwnSpace(pool string) bool { return strings.HasPrefix(pool, spacePrefix) }

// dockerSpace gives the space for the pools of a network whose subnets Docker's
// allocator has chosen. Each engine chooses by itself, so that different networks
// of two hosts often have one subnet: the second is given a space of its own.
func (r Records) dockerSpace(ctx context.Context, pools map[string]Pool, network fabric.Network) (string, error) {
	for _, subnet := range network.Subnets {
		switch other, clash := Overlapping(pools, DefaultSpace, subnet.Prefix); {
		case clash && keptApart(network.Mode):
			return ownSpace(network), nil
		case clash:
			return "", fmt.Errorf("subnet %s overlaps %s of %s: give another --subnet, or have one picked by --ipam-driver causeway",
				subnet.Prefix, other.Prefix, r.poolHolder(ctx, other))
		}
	}
	return DefaultSpace, nil
}

// sameMoment is how far apart the hosts may be that create one network at once.
const sameMoment = 10 * time.Second

// allNow says whether all who use the pool requested it a moment ago: then they
// are taken for hosts that create one network at once.
func (r Records) allNow(pool Pool, users map[string]Use) bool {
	now := func(at time.Time) bool { return r.now().Sub(at).Abs() <= sameMoment }
	for _, use := range users {
		if !now(use.Requested) {
			return false
		}
	}
	for _, at := range pool.Requested {
		if !now(at) {
			return false
		}
	}
	return true
}

// lastRequested finds the pool of prefix, of any space, that this host requested last.
func (r Records) lastRequested(ctx context.Context, pools map[string]Pool, prefix netip.Prefix) (found Pool, err error) {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(pools)) {
		if pools[id].Prefix == prefix {
			ids = append(ids, id)
		}
	}
	var last time.Time
	for some := range slices.Chunk(ids, maxWrites) {
		var keys []string
		for _, id := range some {
			keys = append(keys, UserKey(id, r.Host))
		}
		uses, err := r.Store.GetAll(ctx, keys)
		if err != nil {
			return found, err
		}
		for n, id := range some {
			pool := pools[id]
			use, _, err := r.ownUse(&pool, uses.Items[keys[n]])
			if err == nil && !use.none() && (!found.Prefix.IsValid() || use.Requested.After(last)) {
				found, last = pools[id], use.Requested
			}
		}
	}
	return found, nil
}

// requestedPool finds the pool of prefix that this host's Docker has requested
// for network. CreateNetwork tells neither the pool's ID nor its space, so it is
// the one that was requested last. A pool that a network of another driver uses
// is never taken: that network's containers have addresses of it.
func (r Records) requestedPool(ctx context.Context, pools map[string]Pool, network fabric.Network, prefix netip.Prefix) (Pool, error) {
	found, err := r.lastRequested(ctx, pools, prefix)
	if err != nil {
		return found, err
	}
	if !found.Prefix.IsValid() {
		return found, fmt.Errorf("subnet %s was not requested from causeway's IPAM on this host: create the network again", prefix)
	}
	member, err := r.isMember(ctx, found.Network)
	if err != nil {
		return found, err
	}
	users, _, err := r.poolUsers(ctx, found)
	if err != nil {
		return found, err
	}
	switch {
	case found.Network != "" && !member && keptApart(network.Mode) && r.allNow(found, users):
		// Another host was first. If it created the network of this name, that one
		// replaces this one here (see firstToBind).
		return Pool{Space: ownSpace(network), Prefix: prefix, Users: []string{anyHost}, Instead: PoolID(found.Space, found.Prefix)}, nil
	case member: // or Docker 20.10 looked for the name before this host's mirror had it
		return found, fmt.Errorf("subnet %s overlaps %s of %s, which already exists on this host: give another --subnet, or put it in an address space of its own with --ipam-opt space=NAME",
			prefix, found.Prefix, r.poolHolder(ctx, found))
	case found.Network != "":
	case len(found.Global) > 0: // swarm's leader and its nodes
		return found, nil
	case users[r.Host].Uses == 1 && (len(users) == 1 || r.allNow(found, users)):
		return found, nil
	}
	return found, fmt.Errorf("subnet %s overlaps %s of %s: give another --subnet, or put it in an address space of its own with --ipam-opt space=NAME",
		prefix, found.Prefix, r.poolHolder(ctx, found))
}

// firstToBind returns ErrConflict while another network, created at the same moment,
// has the pool that network's engine had requested too, and has no name yet. That
// network has to be named first: of two networks of one name the second is removed,
// and it must be the one whose engine has another pool than it requested.
func (r Records) firstToBind(ctx context.Context, network fabric.Network) error {
	for _, subnet := range network.Subnets {
		if !InOwnSpace(subnet.Pool) {
			continue
		}
		pool, err := r.Pool(ctx, subnet.Pool)
		if err != nil || pool.Instead == "" {
			return err
		}
		asked, err := r.Pool(ctx, pool.Instead)
		if errors.Is(err, ErrNoPool) {
			return nil
		}
		if err != nil {
			return err
		}
		if users, _, err := r.poolUsers(ctx, asked); err != nil || !r.allNow(asked, users) {
			return err
		}
		first, err := r.Network(ctx, asked.Network)
		if err == nil && first.Name == "" {
			return fmt.Errorf("network %s, which was created at the same moment, has no name yet: %w", first.ID, kvstore.ErrConflict)
		}
		if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
	}
	return nil
}

// poolHolder says who has a pool.
func (r Records) poolHolder(ctx context.Context, pool Pool) string {
	if pool.Network != "" {
		return "network " + r.networkName(ctx, pool.Network)
	}
	users, _, err := r.poolUsers(ctx, pool)
	if err != nil {
		return "another network"
	}
	return fmt.Sprintf("a network on %v", slices.Sorted(maps.Keys(users)))
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
