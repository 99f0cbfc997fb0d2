package collect

import (
	"context"
	"errors"
	"maps"
	"net/netip"
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
// An address is suspected when this process claimed it, or may have, and when its endpoint
// is gone; what an earlier process claimed is found in the networks' pools, each of which is
// read after the start. Then one of them is read each hour: a store that was restored may
// have claims that were released before.
type claims struct {
	mu   sync.Mutex
	told map[string]bool // suspects that the looks have not taken in yet, by key; guarded by mu

	suspects map[string]bool // by key
	unheld   grace.Tracker[claim]
	read     map[string]bool // networks whose pools were read since the start
	last     string          // the network that was read last
	looks    int             // since then
}

// Claimed has an address looked at that this host has claimed for an engine.
func (c *Collector) Claimed(pool string, addr netip.Addr) {
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	c.claims.told[records.AddressKey(pool, addr)] = true
}

func (c *claims) takeTold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.suspects, c.told)
	clear(c.told)
}

// claim is one claim of an address; one that is made again is another.
type claim struct {
	key      string
	revision int64
}

// holders are the pools and the endpoints of this host. Other pools are other
// drivers', and theirs to judge.
type holders struct {
	host      string
	pools     map[string]fabric.Network // by pool
	endpoints map[string]bool
}

// unheld says that address is a claim of the host that no endpoint has.
func (h holders) unheld(key string, address records.Address) bool {
	_, known := h.pools[poolOf(key)]
	return known && address.Kind == records.KindEndpoint && address.Host == h.host && !h.endpoints[address.Endpoint]
}

// poolOf gives the pool of an address' key.
func poolOf(key string) string {
	pool, _, _ := strings.Cut(strings.TrimPrefix(key, records.AddressesPrefix), "/")
	return pool
}

// addresses releases the claims that have had no endpoint for the grace time.
func (c *Collector) addresses(ctx context.Context) {
	h, err := c.suspect(ctx)
	if err != nil {
		return // the store is away, or not all was read: nothing is judged
	}
	var seen []claim
	items, addresses := map[claim]kvstore.Item{}, map[claim]records.Address{}
	for key := range c.claims.suspects {
		address, item, err := kvstore.Read[records.Address](ctx, c.Records.Store, key)
		if errors.Is(err, kvstore.ErrUnavailable) || ctx.Err() != nil {
			return
		}
		if err != nil || !h.unheld(key, address) {
			delete(c.claims.suspects, key)
			continue
		}
		this := claim{key, item.Revision}
		seen = append(seen, this)
		items[this], addresses[this] = item, address
	}
	for _, due := range c.claims.unheld.Observe(time.Now(), seen, c.Grace) {
		unless := c.Records
		if endpoint := addresses[due].Endpoint; endpoint != "" { // the view may be behind
			unless.While = []kvstore.Guard{kvstore.Missing(records.EndpointKey(h.pools[poolOf(due.key)].ID, endpoint))}
		}
		if unless.ReleaseClaim(ctx, items[due]) == nil {
			c.Log.WithField("address", due.key).Info("address is claimed for no endpoint; it is released")
		}
	}
}

// suspect looks for suspects: the addresses of endpoints that went, and what the
// pools that are next hold.
func (c *Collector) suspect(ctx context.Context) (holders, error) {
	holdings, err := c.Loop.Holdings(ctx)
	if err != nil {
		return holders{}, err
	}
	c.claims.takeTold()
	h := holders{host: c.Records.Host, pools: map[string]fabric.Network{}, endpoints: holdings.Endpoints}
	for _, network := range holdings.Networks {
		for _, subnet := range network.Subnets {
			h.pools[subnet.Pool] = network
		}
	}
	for _, endpoint := range holdings.Gone {
		for _, address := range endpoint.Addrs {
			if subnet, ok := records.SubnetOf(holdings.Networks[endpoint.Network], address.Addr()); ok {
				c.claims.suspects[records.AddressKey(subnet.Pool, address.Addr())] = true
			}
		}
	}
	for _, id := range c.claims.next(slices.Sorted(maps.Keys(holdings.Networks))) {
		for _, subnet := range holdings.Networks[id].Subnets {
			addresses, err := c.Records.Store.List(ctx, records.PoolAddresses(subnet.Pool))
			if err != nil {
				return h, err
			}
			for key, item := range addresses.Items {
				if address, err := kvstore.Decode[records.Address](item); err == nil && h.unheld(key, address) {
					c.claims.suspects[key] = true
				}
			}
		}
		c.claims.read[id], c.claims.last, c.claims.looks = true, id, 0
	}
	return h, nil
}

// next picks the networks to read of ids, which are sorted: some that were not
// read since the start, or else, once in pause looks, the one after the last.
func (c *claims) next(ids []string) []string {
	const atOnce, pause = 2, 240
	c.looks++
	maps.DeleteFunc(c.read, func(id string, _ bool) bool { return !slices.Contains(ids, id) })
	var fresh []string
	for _, id := range ids {
		if !c.read[id] && len(fresh) < atOnce {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) > 0 || len(ids) == 0 || c.looks < pause {
		return fresh
	}
	index := slices.IndexFunc(ids, func(id string) bool { return id > c.last })
	return []string{ids[max(0, index)]}
}
