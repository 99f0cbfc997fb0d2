package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// claims are the addresses that this host may have claimed for no endpoint: an
// engine died between RequestAddress and CreateEndpoint, or before ReleaseAddress.
// An address is suspected when its endpoint is gone; others are found by reading a
// network's pools, each once after the start and then one at a time.
type claims struct {
	mu       sync.Mutex // guards suspects
	suspects map[string]bool

	unheld grace.Tracker[claim]
	read   map[string]bool // networks whose pools were read since the start
	last   string          // the network that was read last
}

// claim is one claim of an address; one that is made again is another.
type claim struct {
	key      string
	revision int64
}

func newClaims() *claims { return &claims{suspects: map[string]bool{}, read: map[string]bool{}} }

func (c *claims) add(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects[key] = true
}

func (c *claims) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.suspects, key)
}

func (c *claims) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.suspects))
}

// suspect has the addresses of endpoints that are gone looked at.
func (c *collector) suspect(network fabric.Network, gone []fabric.Endpoint) {
	for _, endpoint := range gone {
		for _, address := range endpoint.Addrs {
			if subnet, ok := records.SubnetOf(network, address.Addr()); ok {
				c.claims.add(records.AddressKey(subnet.Pool, address.Addr()))
			}
		}
	}
}

// holders is what the view says about the claims of this host: the pools of its
// networks, and its endpoints. Other pools are other drivers', and theirs to judge.
type holders struct {
	networks  map[string]fabric.Network // attached, by ID
	pools     map[string]string         // networks by pool
	endpoints map[string]bool
}

func (c *collector) holders(ctx context.Context) (holders, error) {
	h := holders{networks: map[string]fabric.Network{}, pools: map[string]string{}, endpoints: map[string]bool{}}
	err := c.do(ctx, func(context.Context) error {
		if !c.view.synced() || !c.mayPrune() {
			return errors.New("not all networks are known yet")
		}
		for id := range c.view.state.Attached {
			network, known := c.view.state.Networks[id]
			if !known {
				continue
			}
			h.networks[id] = network
			for _, subnet := range network.Subnets {
				h.pools[subnet.Pool] = id
			}
		}
		for _, endpoints := range c.view.own {
			for id := range endpoints {
				h.endpoints[id] = true
			}
		}
		return nil
	})
	return h, err
}

// collectClaims releases the claims that have had no endpoint for the grace time.
func (c *collector) collectClaims(ctx context.Context) {
	h, err := c.holders(ctx)
	if err != nil || c.readPools(ctx, h) != nil {
		return // the store is away: nothing is judged
	}
	var seen []claim
	items, holder := map[claim]kvstore.Item{}, map[claim]records.Address{}
	for _, key := range c.claims.list() {
		address, item, err := kvstore.Read[records.Address](ctx, c.Store, key)
		if errors.Is(err, kvstore.ErrUnavailable) || ctx.Err() != nil {
			return
		}
		if err != nil || !h.unheld(c.Host.Name, key, address) {
			c.claims.drop(key)
			continue
		}
		this := claim{key, item.Revision}
		seen = append(seen, this)
		items[this], holder[this] = item, address
	}
	for _, due := range c.claims.unheld.Observe(time.Now(), seen, c.Timing.Grace) {
		unless := c.records
		if endpoint := holder[due].Endpoint; endpoint != "" { // the view may be behind
			unless.While = []kvstore.Guard{kvstore.Missing(records.EndpointKey(h.pools[poolOf(due.key)], endpoint))}
		}
		if unless.ReleaseClaim(ctx, items[due]) == nil {
			c.Log.WithField("address", due.key).Info("address is claimed for no endpoint; it is released")
		}
	}
}

// unheld says that address is a claim of host that no endpoint has.
func (h holders) unheld(host, key string, address records.Address) bool {
	return address.Kind == records.KindEndpoint && address.Host == host && h.pools[poolOf(key)] != "" && !h.endpoints[address.Endpoint]
}

// poolOf gives the pool of an address' key.
func poolOf(key string) string {
	pool, _, _ := strings.Cut(strings.TrimPrefix(key, records.AddressesPrefix), "/")
	return pool
}

// poolsAtOnce is how many networks' pools one look reads after the start.
const poolsAtOnce = 4

// readPools looks for suspects in the pools of the networks that are next.
func (c *collector) readPools(ctx context.Context, h holders) error {
	for _, id := range c.claims.next(slices.Sorted(maps.Keys(h.networks))) {
		for _, subnet := range h.networks[id].Subnets {
			addresses, err := c.Store.List(ctx, records.PoolAddresses(subnet.Pool))
			if err != nil {
				return err
			}
			for key, item := range addresses.Items {
				if address, err := kvstore.Decode[records.Address](item); err == nil && h.unheld(c.Host.Name, key, address) {
					c.claims.add(key)
				}
			}
		}
		c.claims.read[id], c.claims.last = true, id
	}
	return nil
}

// next picks the networks to read of ids, which are sorted: some that were not
// read since the start, or else the one after the last.
func (c *claims) next(ids []string) []string {
	maps.DeleteFunc(c.read, func(id string, _ bool) bool { return !slices.Contains(ids, id) })
	var fresh []string
	for _, id := range ids {
		if !c.read[id] && len(fresh) < poolsAtOnce {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) > 0 || len(ids) == 0 {
		return fresh
	}
	index := slices.IndexFunc(ids, func(id string) bool { return id > c.last })
	return []string{ids[max(0, index)]}
}
