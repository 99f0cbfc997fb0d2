package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/causeway-net/causeway/kvstore"
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
	pool kvstore.Pool
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

func (i *IPAM) target(ctx context.Context, text string) (target, error) {
	id, err := parsePoolID(text)
	if err != nil {
		return target{}, err
	}
	item, err := i.Store.Get(ctx, kvstore.PoolKey(id.key))
	if errors.Is(err, kvstore.ErrNotFound) {
		return target{}, fmt.Errorf("pool %s is not in the cluster: remove the network and create it again", id.key)
	}
	if err != nil {
		return target{}, err
	}
	pool, err := kvstore.Decode[kvstore.Pool](item)
	return target{poolID: id, pool: pool}, err
}

// claim is the record of an address that is given out now. What swarm's leader
// claims belongs to no host until the node asks that runs the task.
func (i *IPAM) claim(t target, want addressRequest) kvstore.Address {
	claim := kvstore.Address{Kind: kvstore.KindEndpoint, Host: i.Host, Name: want.name}
	if want.gateway {
		claim.Kind = kvstore.KindGateway
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
	if !assignable(t.pool.Prefix, want.addr) {
		return fmt.Errorf("address %s of pool %s is the network's own and no station's", want.addr, t.pool.Prefix)
	}
	key := kvstore.AddressKey(t.key, want.addr)
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
		err = i.take(ctx, t, want.addr, guard, i.claim(t, want))
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
// what is held there is refused.
func (i *IPAM) mayTake(ctx context.Context, t target, item kvstore.Item, want addressRequest) (had bool, err error) {
	holder, err := kvstore.Decode[kvstore.Address](item)
	if err != nil {
		return false, err
	}
	switch {
	case holder.Kind == kvstore.KindFree, holder.Kind == kvstore.KindForeign:
		return false, nil
	case want.gateway && holder.Kind == kvstore.KindGateway, !want.gateway && holder.Kind == kvstore.KindAux:
		return true, nil
	case holder.Kind != kvstore.KindEndpoint || want.gateway:
	case t.global:
		return true, nil // swarm's leader claims all anew when it starts
	case holder.Host == "":
		return false, nil // swarm's leader claimed it for the node that asks now
	case holder.Host == i.Host && t.pool.Network != "":
		if bound, err := i.bound(ctx, t, holder); !bound || err != nil {
			return err == nil, err
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
func (i *IPAM) bound(ctx context.Context, t target, holder kvstore.Address) (bool, error) {
	if holder.Endpoint == "" {
		return false, nil
	}
	_, err := i.Store.Get(ctx, kvstore.EndpointKey(t.pool.Network, holder.Endpoint))
	if errors.Is(err, kvstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// claimGateway gives the gateway that the pool has, else the lowest address.
func (i *IPAM) claimGateway(ctx context.Context, t target) (netip.Addr, error) {
	t.within = netip.Prefix{} // --ip-range is for containers
	t.pool.DockerIPAM = false
	v, err := i.view(ctx, t)
	if err != nil {
		return netip.Addr{}, err
	}
	for addr, address := range v.known {
		if address.Kind == kvstore.KindGateway {
			return addr, nil
		}
	}
	return i.claimAny(ctx, t, addressRequest{gateway: true})
}

// claimAny claims the best address that is free.
func (i *IPAM) claimAny(ctx context.Context, t target, want addressRequest) (netip.Addr, error) {
	v, err := i.view(ctx, t)
	if err != nil {
		return netip.Addr{}, err
	}
	claim := i.claim(t, want)
	for addr := range v.choices(t) {
		err := i.take(ctx, t, addr, v.guard(t, addr), claim)
		if err == nil {
			i.sweep(ctx, t, v, addr)
		}
		if !isTaken(err) {
			return addr, err
		}
	}
	return netip.Addr{}, fmt.Errorf("%s is full: all of its %d addresses are in use", t, size(v.first, v.last))
}

// isTaken says that another was faster, or a machine on the wire has it: on to the next.
func isTaken(err error) bool {
	return errors.Is(err, kvstore.ErrConflict) || errors.Is(err, errForeign)
}

// freed is the record of an address that is freed now.
func (i *IPAM) freed() kvstore.Address {
	return kvstore.Address{Kind: kvstore.KindFree, Freed: i.now().UTC()}
}

// releaseAddress frees an address that this host asked for and that no endpoint
// has. Gateways and aux addresses go with their pool; an unknown one is a success.
func (i *IPAM) releaseAddress(ctx context.Context, pool, text string) error {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return badAddress(text)
	}
	t, err := i.target(ctx, pool)
	if errors.Is(err, kvstore.ErrUnavailable) {
		return err
	}
	if err != nil {
		return nil // the pool went with its network
	}
	key := kvstore.AddressKey(t.key, addr)
	for range tries {
		item, err := i.Store.Get(ctx, key)
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		holder, err := kvstore.Decode[kvstore.Address](item)
		if err != nil {
			return err
		}
		ours := holder.Host == i.Host || t.global && holder.Host == ""
		if holder.Kind != kvstore.KindEndpoint || !ours {
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
