package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// allocation is what this process knows of a pool, or a range of one, that it gives
// addresses of. A claim is made from it by one guarded write; what it is wrong about
// shows as a conflict, and is read again. Of a pool of few addresses all are known
// (pickWhole), of a larger one those of this host's blocks (pickBlocks).
type allocation struct {
	key    string
	within netip.Prefix

	mu      sync.Mutex // all below; held while something is read, so that claims that wait read nothing
	item    kvstore.Item
	pool    Pool
	network fabric.Network
	chunks  []*chunk // of this host's blocks
	whole   *chunk   // the pool or the range, or another's block that is borrowed from
	// next is where the next free block is looked for, after noBlocks.
	next     netip.Addr
	noBlocks time.Time
	pending  map[netip.Addr]bool // picked, and not yet written
}

// attempt is one request for any address.
type attempt struct {
	now       time.Time
	conflicts int
	tried     map[netip.Addr]bool // answered on the wire
}

// pick is an address that may be claimed while guards hold.
type pick struct {
	addr    netip.Addr
	chunk   *chunk
	network fabric.Network
	pool    Pool
	guards  []kvstore.Guard
}

// allocation gives what is known of a pool.
func (c *Claimer) allocation(key string, within netip.Prefix) *allocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allocations == nil {
		c.allocations = make(map[string]map[netip.Prefix]*allocation)
	}
	if c.allocations[key] == nil {
		c.allocations[key] = make(map[netip.Prefix]*allocation)
	}
	a := c.allocations[key][within]
	if a == nil {
		a = &allocation{key: key, within: within, pending: make(map[netip.Addr]bool)}
		c.allocations[key][within] = a
	}
	return a
}

// forget drops what is known of a pool.
func (c *Claimer) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.allocations, key)
}

// Freed notes that an address was released.
func (c *Claimer) Freed(key string, addr netip.Addr) {
	c.mu.Lock()
	known := slices.Collect(maps.Values(c.allocations[key]))
	c.mu.Unlock()
	for _, a := range known {
		a.mu.Lock()
		for _, ch := range a.chunks {
			if ch.view.InSpan(addr) && ch.freed.IsZero() {
				ch.freed = c.now()
			}
		}
		a.mu.Unlock()
	}
}

// claimAny claims a free address.
func (c *Claimer) claimAny(ctx context.Context, want AddressRequest) (given netip.Prefix, err error) {
	a := c.allocation(want.Pool, want.Within)
	try := attempt{tried: make(map[netip.Addr]bool)}
	err = kvstore.Retry(ctx, "address of pool "+want.Pool, func() error {
		for {
			try.now = c.now()
			p, err := c.pick(ctx, a, &try)
			if errors.Is(err, ErrNoPool) {
				c.forget(want.Pool)
			}
			if err != nil {
				return err
			}
			revision, err := c.take(ctx, p.pool, p.network, want, p.addr, p.guards...)
			a.settle(p, c.claimed(want), revision, err)
			given = netip.PrefixFrom(p.addr, p.pool.Prefix.Bits())
			if errors.Is(err, kvstore.ErrConflict) {
				try.conflicts++
			}
			if !errors.Is(err, errForeign) {
				return err
			}
			try.tried[p.addr] = true
		}
	})
	return given, err
}

// pick chooses an address, and keeps it from the other claims of this process.
func (c *Claimer) pick(ctx context.Context, a *allocation, try *attempt) (pick, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.item.Key == "" {
		if err := c.load(ctx, a); err != nil {
			return pick{}, err
		}
	}
	span := newView(a.key, a.pool, a.within)
	choose := c.pickWhole
	if a.pool.byBlocks(span.First, span.Last) {
		choose = c.pickBlocks
	}
	addr, ch, err := choose(ctx, a, span, try)
	if err != nil {
		return pick{}, err
	}
	a.pending[addr] = true
	p := pick{addr: addr, chunk: ch, network: a.network, pool: a.pool}
	p.guards = []kvstore.Guard{ch.view.guard(addr), kvstore.Unchanged(a.item)}
	if ch.block.Key != "" {
		p.guards = append(p.guards, kvstore.Unchanged(ch.block))
	}
	return p, nil
}

// settle takes in what became of a pick.
func (a *allocation) settle(p pick, claim Address, revision int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pending, p.addr)
	switch {
	case err == nil:
		p.chunk.view.took(p.addr, claim, revision)
	case errors.Is(err, errForeign):
		p.chunk.read = time.Time{}
	default:
		p.chunk.read, a.item = time.Time{}, kvstore.Item{}
	}
}

// load reads the pool's record, and at first this host's blocks.
func (c *Claimer) load(ctx context.Context, a *allocation) error {
	item, err := c.Store.Get(ctx, PoolKey(a.key))
	if errors.Is(err, kvstore.ErrNotFound) {
		return fmt.Errorf("pool %s %w", a.key, ErrNoPool)
	}
	if err != nil {
		return err
	}
	pool, err := decodePool(a.key, item)
	if err != nil {
		return err
	}
	if c.Probe != nil && (a.network.ID != pool.Network || pool.Network == "") {
		if a.network, err = c.networkOf(ctx, pool); err != nil {
			return err
		}
	}
	v := newView(a.key, pool, a.within)
	anew := a.pool.Prefix != pool.Prefix || a.pool.BlockBits != pool.BlockBits || a.pool.DockerIPAM != pool.DockerIPAM
	if anew && pool.byBlocks(v.First, v.Last) {
		if a.chunks, err = c.ownChunks(ctx, v); err != nil {
			return err
		}
	}
	if anew {
		a.whole, a.next, a.noBlocks = nil, netip.Addr{}, time.Time{}
	}
	a.item, a.pool = item, pool
	return nil
}

// choose gives the best of what a chunk has. rested says that quarantined addresses
// and those of machines on the wire are passed over. After conflicts it takes one at
// random, so that hosts which read the same do not write the same.
func (c *Claimer) choose(a *allocation, ch *chunk, try *attempt, rested bool) (best netip.Addr, found bool) {
	skip := 0
	if try.conflicts > 1 {
		skip = rand.IntN(1 << min(try.conflicts-1, 6))
	}
	ch.view.Now = try.now
	for addr := range c.Choices(ch.view) {
		if a.pending[addr] || try.tried[addr] ||
			rested && (ch.view.FreedWithin(addr, Quarantine) || ch.view.Known[addr].Kind == KindForeign) {
			continue
		}
		best, found = addr, true
		if skip--; skip < 0 {
			break
		}
	}
	return best, found
}

// pickWhole picks of all addresses of the pool or the range. Where Docker's allocator
// has part in it they are read each time: what is best depends on all that are free.
func (c *Claimer) pickWhole(ctx context.Context, a *allocation, span *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	if a.whole == nil || a.whole.block.Key != "" || a.whole.view.First != span.First || a.whole.view.Last != span.Last {
		a.whole = &chunk{view: span}
	}
	ch := a.whole
	if !a.pool.DockerIPAM && !ch.read.IsZero() {
		if addr, found := c.choose(a, ch, try, true); found {
			return addr, ch, nil
		}
	}
	if _, err := c.readChunk(ctx, ch); err != nil {
		return netip.Addr{}, nil, err
	}
	rested, found := netip.Addr{}, false
	if !a.pool.DockerIPAM {
		rested, found = c.choose(a, ch, try, true)
	}
	if !found {
		rested, found = c.choose(a, ch, try, false)
	}
	switch {
	case found:
		return rested, ch, nil
	case len(a.pending) > 0: // one of them may fail
		return netip.Addr{}, nil, fmt.Errorf("pool %s: %w", a.key, kvstore.ErrConflict)
	}
	return netip.Addr{}, nil, span.full()
}
