package records

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"sync"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// AddressRequest is what an engine asks causeway's IPAM for.
type AddressRequest struct {
	// Pool is the ID of the pool, Within the part of it that is picked from (zero: all).
	Pool   string
	Within netip.Prefix
	// Global says that swarm's leader asks, for the node that will run the task.
	Global bool
	// Addr is the address that is wanted; zero for any.
	Addr    netip.Addr
	Gateway bool
	// Name is the container's, where the engine tells it.
	Name string
}

// Claimer claims addresses for this host's engine.
type Claimer struct {
	Records
	// Choices are the addresses of a view that may be claimed, the best first.
	Choices func(*PoolView) iter.Seq[netip.Addr]
	// Probe asks on an underlay network's wire whether somebody has an address
	// already, and gives that station's MAC; nil: nobody is asked.
	Probe func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error)
	// Claimed is told each address that is claimed, or may be: the engine may die, or not
	// hear of it, before it uses it. nil: nobody is told.
	Claimed func(pool string, addr netip.Addr)
	// unsure has the keys of addresses whose claim failed with an error after which it
	// may be in the store all the same, though the engine was not given the address.
	unsure sync.Map

	mu sync.Mutex
	// allocations is what is known of the pools, by key and range; guarded by mu.
	allocations map[string]map[netip.Prefix]*allocation
}

// ErrNoPool says that a pool was deleted, with its network or its last use.
var ErrNoPool = errors.New("is not in the cluster: remove the network and create it again")

// Pool reads the pool of an ID, or says with ErrNoPool that there is none.
func (r Records) Pool(ctx context.Context, id string) (Pool, error) {
	item, err := r.Store.Get(ctx, PoolKey(id))
	if errors.Is(err, kvstore.ErrNotFound) {
		return Pool{}, fmt.Errorf("pool %s %w", id, ErrNoPool)
	}
	if err != nil {
		return Pool{}, err
	}
	return decodePool(id, item)
}

// Claim claims the address that is asked for and returns it with its subnet's
// length. It reads the pool again after each conflict: it may be gone.
func (c *Claimer) Claim(ctx context.Context, want AddressRequest) (given netip.Prefix, err error) {
	if !want.Addr.IsValid() && !want.Gateway {
		return c.claimAny(ctx, want)
	}
	what := "address " + want.Addr.String()
	if !want.Addr.IsValid() {
		what = "gateway of pool " + want.Pool
	}
	err = kvstore.Retry(ctx, what, func() error {
		pool, err := c.Pool(ctx, want.Pool)
		if err != nil {
			return err
		}
		addr := want.Addr
		if addr.IsValid() {
			err = c.claimThis(ctx, pool, want)
		} else {
			addr, err = c.claimGateway(ctx, pool, want)
		}
		given = netip.PrefixFrom(addr, pool.Prefix.Bits())
		return err
	})
	return given, err
}

// claimed is the record of an address that is given out now. What swarm's leader
// claims belongs to no host until the node asks that runs the task.
func (c *Claimer) claimed(want AddressRequest) Address {
	claim := Address{Kind: KindEndpoint, Host: c.Host, Name: want.Name}
	if want.Gateway {
		claim.Kind = KindGateway
	}
	if want.Global {
		claim.Host = ""
	}
	return claim
}

// claimThis claims the address that the user chose. Asking again for an address that
// one has is no error: engines repeat requests, and every host asks for the gateway.
func (c *Claimer) claimThis(ctx context.Context, pool Pool, want AddressRequest) error {
	if !pool.Prefix.Contains(want.Addr) {
		return fmt.Errorf("address %s is not in pool %s", want.Addr, pool.Prefix)
	}
	if !Assignable(pool.Prefix, want.Addr) {
		return fmt.Errorf("address %s of pool %s is the network's own and no station's", want.Addr, pool.Prefix)
	}
	key := AddressKey(want.Pool, want.Addr)
	guard := kvstore.Missing(key)
	item, err := c.Store.Get(ctx, key)
	if err == nil {
		var had bool
		if had, err = c.mayTake(ctx, pool, item, want); had || err != nil {
			return err
		}
		guard = kvstore.Unchanged(item)
	} else if !errors.Is(err, kvstore.ErrNotFound) {
		return err
	}
	var network fabric.Network
	if c.Probe != nil && !want.Gateway {
		if network, err = c.networkOf(ctx, pool); err != nil {
			return err
		}
	}
	_, err = c.take(ctx, pool, network, want, want.Addr, guard)
	return err
}

// mayTake says whether the caller has the address already (had) or may claim it (not
// had, no error); the error names the holder.
//
// In a network of causeway's, a claim of this host without an endpoint is a repeated
// request: CreateEndpoint binds all others. In a pool of another driver's all claims
// look alike: most engines do not tell whether they ask for an --aux-address, for a
// container's --ip, or for either again. There an address in use is refused, except
// one that this host may have claimed while the store went away.
func (c *Claimer) mayTake(ctx context.Context, pool Pool, item kvstore.Item, want AddressRequest) (had bool, err error) {
	holder, err := kvstore.Decode[Address](item)
	if err != nil {
		return false, err
	}
	switch {
	case holder.Kind == KindFree, holder.Kind == KindForeign:
		return false, nil
	case want.Gateway && holder.Kind == KindGateway, !want.Gateway && holder.Kind == KindAux:
		return true, nil
	case holder.Kind != KindEndpoint || want.Gateway:
	case want.Global:
		return true, nil // swarm's leader claims all again when it starts
	case holder.Host == "":
		return false, nil // swarm's leader claimed it for the node that asks now
	case holder.Host == c.Host && pool.Network != "":
		if bound, err := c.bound(ctx, pool, holder); !bound || err != nil {
			return err == nil, err
		}
	case holder.Host == c.Host:
		if _, unsure := c.unsure.LoadAndDelete(item.Key); unsure {
			return true, nil
		}
	}
	return false, fmt.Errorf("address %s %s is in use %s: %s", want.Addr, c.place(ctx, pool), holder.Holder(), remedy(pool, want))
}

// place says, to follow an address, where it is.
func (r Records) place(ctx context.Context, pool Pool) string {
	if pool.Network == "" {
		return "of pool " + pool.Prefix.String()
	}
	return "on " + r.poolHolder(ctx, pool)
}

// remedy says what helps a user who wants an address that is in use.
func remedy(pool Pool, want AddressRequest) string {
	switch {
	case want.Gateway:
		return "give another --gateway"
	case pool.Network == "":
		return "start the container with another --ip; an --aux-address is given on one host, and holds on all"
	}
	return "start the container with another --ip"
}

// bound says whether the address belongs to an endpoint that is there.
func (r Records) bound(ctx context.Context, pool Pool, holder Address) (bool, error) {
	if holder.Endpoint == "" {
		return false, nil
	}
	_, err := r.Store.Get(ctx, EndpointKey(pool.Network, holder.Endpoint))
	if errors.Is(err, kvstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// claimGateway gives the gateway that the pool's network or the pool has, else the lowest
// address. It claims one only while nobody else has claimed anything: two hosts that ask
// at once must not have two. The pool is read while it has no network, and few addresses.
func (c *Claimer) claimGateway(ctx context.Context, pool Pool, want AddressRequest) (netip.Addr, error) {
	network, err := c.networkOf(ctx, pool)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, subnet := range network.Subnets {
		if subnet.Pool == want.Pool && subnet.Gateway.IsValid() {
			return subnet.Gateway, nil
		}
	}
	pool.DockerIPAM = false
	v, err := c.ViewPool(ctx, want.Pool, pool, netip.Prefix{}) // --ip-range is for containers
	if err != nil {
		return netip.Addr{}, err
	}
	if gateways := v.Oldest(KindGateway); len(gateways) > 0 {
		return gateways[0], nil
	}
	for addr := range c.Choices(v) {
		alone := kvstore.NoneNewer(PoolAddresses(want.Pool), v.snapshot.Revision)
		_, err := c.take(ctx, pool, fabric.Network{}, want, addr, v.guard(addr), alone)
		return addr, err
	}
	return netip.Addr{}, v.full()
}

// errForeign says that a machine outside the cluster uses the address.
var errForeign = errors.New("in use on the wire")

// take claims an address and, on an underlay network, probes for a machine outside the
// cluster that uses it. Such a machine is recorded, and the error is errForeign. The
// claim comes first: two hosts never probe for one address, and so never take each
// other for its holder.
func (c *Claimer) take(ctx context.Context, pool Pool, network fabric.Network, want AddressRequest, addr netip.Addr, guards ...kvstore.Guard) (revision int64, err error) {
	key, exists, claim := AddressKey(want.Pool, addr), kvstore.Exists(PoolKey(want.Pool)), c.claimed(want)
	revision, err = c.Store.Commit(ctx, kvstore.Txn{
		If:   append(guards, exists),
		Then: []kvstore.Op{kvstore.Put(key, claim)},
	})
	switch {
	case err == nil:
		c.unsure.Delete(key)
	case !errors.Is(err, kvstore.ErrConflict):
		c.unsure.Store(key, nil)
	}
	if c.Claimed != nil && !errors.Is(err, kvstore.ErrConflict) {
		c.Claimed(want.Pool, addr)
	}
	if err != nil || network.Mode != fabric.ModeUnderlay {
		return revision, err
	}
	holder, taken, err := c.Probe(ctx, network, addr)
	if err == nil && !taken {
		return revision, nil
	}
	record := Freed(c.now())
	if taken {
		record = Address{Kind: KindForeign, Name: holder.String()}
		err = fmt.Errorf("address %s %s is %w by the machine %s: start the container with another --ip", addr, c.place(ctx, pool), errForeign, holder)
	}
	_, failed := c.Store.Commit(context.WithoutCancel(ctx), kvstore.Txn{
		If:   []kvstore.Guard{exists, kvstore.Unchanged(kvstore.Item{Key: key, Revision: revision})},
		Then: []kvstore.Op{kvstore.Put(key, record)},
	})
	if errors.Is(failed, kvstore.ErrConflict) {
		failed = nil // the network was deleted, and the claim with it
	}
	return 0, errors.Join(err, failed)
}
