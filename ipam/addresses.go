package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// addressRequest is a RequestAddress, decoded.
type addressRequest struct {
	// addr is the one that is wanted; zero for any.
	addr    netip.Addr
	gateway bool
	// name is the container's, where the engine tells it.
	name string
}

func badAddress(text string) error { return fmt.Errorf("%q is not an address", text) }

// target is a pool that an address is wanted in.
type target struct {
	poolID
	pool records.Pool
}

func (t target) String() string {
	if t.within.IsValid() {
		return fmt.Sprintf("range %s of pool %s", t.within, t.pool.Prefix)
	}
	return "pool " + t.pool.Prefix.String()
}

// requestAddress claims an address and returns it with its subnet's length.
func (i *IPAM) requestAddress(ctx context.Context, pool string, want addressRequest) (netip.Prefix, error) {
	t, err := i.target(ctx, pool)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr := want.addr
	switch {
	case addr.IsValid():
		err = i.claimThis(ctx, t, want)
	case want.gateway:
		addr, err = i.claimGateway(ctx, t)
	default:
		addr, err = i.claimAny(ctx, t, want)
	}
	return netip.PrefixFrom(addr, t.pool.Prefix.Bits()), err
}

// errNoPool says that a pool went, with its network or its last use.
var errNoPool = errors.New("is not in the cluster: remove the network and create it again")

func (i *IPAM) target(ctx context.Context, text string) (target, error) {
	id, err := parsePoolID(text)
	if err != nil {
		return target{}, err
	}
	pool, _, err := kvstore.Read[records.Pool](ctx, i.Store, records.PoolKey(id.key))
	if errors.Is(err, kvstore.ErrNotFound) {
		return target{}, fmt.Errorf("pool %s %w", id.key, errNoPool)
	}
	return target{poolID: id, pool: pool}, err
}

// claim is the record of an address that is given out now. What swarm's leader
// claims belongs to no host until the node asks that runs the task.
func (i *IPAM) claim(t target, want addressRequest) records.Address {
	claim := records.Address{Kind: records.KindEndpoint, Host: i.Host, Name: want.name}
	if want.gateway {
		claim.Kind = records.KindGateway
	}
	if t.global {
		claim.Host = ""
	}
	return claim
}

// claimThis claims the address that the user chose. To ask again for what one
// has is no error: engines repeat themselves, and every host asks for the gateway.
func (i *IPAM) claimThis(ctx context.Context, t target, want addressRequest) error {
	if !t.pool.Prefix.Contains(want.addr) {
		return fmt.Errorf("address %s is not in pool %s", want.addr, t.pool.Prefix)
	}
	if !records.Assignable(t.pool.Prefix, want.addr) {
		return fmt.Errorf("address %s of pool %s is the network's own and no station's", want.addr, t.pool.Prefix)
	}
	key := records.AddressKey(t.key, want.addr)
	for range tries {
		guard := kvstore.Missing(key)
		item, err := i.Store.Get(ctx, key)
		if err == nil {
			var had bool
			if had, err = i.mayTake(ctx, t, item, want); had || err != nil {
				return err
			}
			guard = kvstore.Unchanged(item)
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		err = i.take(ctx, t, want.addr, i.claim(t, want), guard)
		if !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("address %s: %w too often, try again", want.addr, kvstore.ErrConflict)
}

// mayTake says whether the one who asks has the address already, or else, with
// no error, that it can be had.
//
// In a network of causeway's, a claim of this host that no endpoint has is the
// one that is asked for again: CreateEndpoint binds the others. In a pool of
// another driver's all claims look alike. Most engines do not tell whether they
// ask for an --aux-address, for a container's --ip or for either once more, so
// what is held there is refused, but for what this host may have claimed while
// the store went away.
func (i *IPAM) mayTake(ctx context.Context, t target, item kvstore.Item, want addressRequest) (had bool, err error) {
	holder, err := kvstore.Decode[records.Address](item)
	if err != nil {
		return false, err
	}
	switch {
	case holder.Kind == records.KindFree, holder.Kind == records.KindForeign:
		return false, nil
	case want.gateway && holder.Kind == records.KindGateway, !want.gateway && holder.Kind == records.KindAux:
		return true, nil
	case holder.Kind != records.KindEndpoint || want.gateway:
	case t.global:
		return true, nil // swarm's leader claims all anew when it starts
	case holder.Host == "":
		return false, nil // swarm's leader claimed it for the node that asks now
	case holder.Host == i.Host && t.pool.Network != "":
		if bound, err := i.bound(ctx, t, holder); !bound || err != nil {
			return err == nil, err
		}
	case holder.Host == i.Host:
		if _, unsure := i.unsure.LoadAndDelete(item.Key); unsure {
			return true, nil
		}
	}
	return false, fmt.Errorf("address %s %s is in use %s: %s", want.addr, i.place(ctx, t), holder.Holder(), remedy(t, want))
}

// place says, to follow an address, where it is.
func (i *IPAM) place(ctx context.Context, t target) string {
	if t.pool.Network == "" {
		return "of pool " + t.pool.Prefix.String()
	}
	return "on " + i.holder(ctx, t.pool)
}

// remedy says what helps who wants an address that is in use.
func remedy(t target, want addressRequest) string {
	switch {
	case want.gateway:
		return "give another --gateway"
	case t.pool.Network == "":
		return "start the container with another --ip; an --aux-address is given on one host, and holds on all"
	}
	return "start the container with another --ip"
}

// bound says whether the address belongs to an endpoint that is there.
func (i *IPAM) bound(ctx context.Context, t target, holder records.Address) (bool, error) {
	if holder.Endpoint == "" {
		return false, nil
	}
	_, err := i.Store.Get(ctx, records.EndpointKey(t.pool.Network, holder.Endpoint))
	if errors.Is(err, kvstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// claimGateway gives the gateway that the pool has, else the lowest address.
func (i *IPAM) claimGateway(ctx context.Context, t target) (netip.Addr, error) {
	t.within = netip.Prefix{} // --ip-range is for containers
	t.pool.DockerIPAM = false
	return i.retry(ctx, t, i.tryGateway)
}

// tryGateway claims a gateway only while nobody else has claimed anything: two
// hosts that ask at once must not have two.
func (i *IPAM) tryGateway(ctx context.Context, t target) (netip.Addr, error) {
	v, err := i.view(ctx, t)
	if err != nil {
		return netip.Addr{}, err
	}
	if gateways := v.oldest(t, records.KindGateway); len(gateways) > 0 {
		return gateways[0], nil
	}
	addr, ok := v.best(t)
	if !ok {
		return addr, v.full(t)
	}
	alone := kvstore.NoneNewer(records.PoolAddresses(t.key), v.snapshot.Revision)
	return addr, i.take(ctx, t, addr, i.claim(t, addressRequest{gateway: true}), v.guard(t, addr), alone)
}

// claimAny claims the best address that is free.
func (i *IPAM) claimAny(ctx context.Context, t target, want addressRequest) (netip.Addr, error) {
	return i.retry(ctx, t, func(ctx context.Context, t target) (netip.Addr, error) { return i.tryAny(ctx, t, want) })
}

// retry looks at the pool anew after each conflict: it may be gone.
func (i *IPAM) retry(ctx context.Context, t target, claim func(context.Context, target) (netip.Addr, error)) (netip.Addr, error) {
	for range tries {
		addr, err := claim(ctx, t)
		if !errors.Is(err, kvstore.ErrConflict) {
			return addr, err
		}
		if _, err := i.target(ctx, t.poolID.String()); err != nil {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, fmt.Errorf("%s: %w too often, try again", t, kvstore.ErrConflict)
}

// tryAny goes down the list of what is free. Where others were faster it takes
// the next, some times, and then has to look again.
func (i *IPAM) tryAny(ctx context.Context, t target, want addressRequest) (netip.Addr, error) {
	v, err := i.view(ctx, t)
	if err != nil {
		return netip.Addr{}, err
	}
	const most = 16
	var conflicts []error
	for addr := range v.choices(t) {
		err := i.take(ctx, t, addr, i.claim(t, want), v.guard(t, addr))
		switch {
		case err == nil:
			i.sweep(ctx, t, v, addr)
			return addr, nil
		case errors.Is(err, errForeign):
		case !errors.Is(err, kvstore.ErrConflict):
			return addr, err
		default:
			conflicts = append(conflicts, err)
		}
		if len(conflicts) == most {
			break
		}
	}
	if len(conflicts) > 0 {
		return netip.Addr{}, conflicts[0]
	}
	return netip.Addr{}, v.full(t)
}

// freed is the record of an address that is freed now.
func (i *IPAM) freed() records.Address {
	return records.Freed(i.now())
}

// releaseAddress frees an address that this host asked for and that no endpoint
// has. Gateways and aux addresses go with their pool; an unknown one is a success.
func (i *IPAM) releaseAddress(ctx context.Context, pool, text string) error {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return badAddress(text)
	}
	t, err := i.target(ctx, pool)
	if errors.Is(err, errNoPool) {
		return nil
	}
	if err != nil {
		return err
	}
	key := records.AddressKey(t.key, addr)
	for range tries {
		holder, item, err := kvstore.Read[records.Address](ctx, i.Store, key)
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		ours := holder.Host == i.Host || t.global && holder.Host == ""
		if holder.Kind != records.KindEndpoint || !ours {
			return nil
		}
		if bound, err := i.bound(ctx, t, holder); bound || err != nil {
			return err
		}
		_, err = i.Store.Commit(ctx, kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Unchanged(item)},
			Then: []kvstore.Op{kvstore.Put(key, i.freed())},
		})
		if !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("address %s: %w too often, try again", addr, kvstore.ErrConflict)
}
