package ipam

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// counted is a store that counts what it is asked.
type counted struct {
	kvstore.Store
	reads, writes, items atomic.Int64
}

func (c *counted) Get(ctx context.Context, key string) (kvstore.Item, error) {
	c.reads.Add(1)
	c.items.Add(1)
	return c.Store.Get(ctx, key)
}

func (c *counted) GetAll(ctx context.Context, keys []string) (kvstore.Snapshot, error) {
	c.reads.Add(1)
	snapshot, err := c.Store.GetAll(ctx, keys)
	c.items.Add(int64(len(snapshot.Items)))
	return snapshot, err
}

func (c *counted) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	c.reads.Add(1)
	snapshot, err := c.Store.List(ctx, prefix)
	c.items.Add(int64(len(snapshot.Items)))
	return snapshot, err
}

func (c *counted) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	c.writes.Add(1)
	return c.Store.Commit(ctx, txn)
}

// claimed fills the pool with addresses of another host's blocks.
func claimed(t testing.TB, store kvstore.Store, pool string, addrs []netip.Addr) {
	t.Helper()
	for some := range slices.Chunk(addrs, 64) {
		var txn kvstore.Txn
		bits := 26
		if some[0].Is6() {
			bits = 122
		}
		for _, addr := range []netip.Addr{some[0], some[len(some)-1]} {
			block := netip.PrefixFrom(addr, bits).Masked()
			if addr == some[0] || !block.Contains(some[0]) {
				txn.Then = append(txn.Then, kvstore.Put(records.BlockKey(pool, block), records.Block{Prefix: block, Host: "other"}))
			}
		}
		for _, addr := range some {
			txn.Then = append(txn.Then, kvstore.Put(records.AddressKey(pool, addr), records.Address{Kind: records.KindEndpoint, Host: "other"}))
		}
		if _, err := store.Commit(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
	}
}

func addrsFrom(first string, count int) []netip.Addr {
	addrs := []netip.Addr{netip.MustParseAddr(first)}
	for len(addrs) < count {
		addrs = append(addrs, addrs[len(addrs)-1].Next())
	}
	return addrs
}

// An address costs one write, whatever else the pool has given out; what is read once
// in 62 of them does not grow with it either.
func TestAnAddressIsOneWrite(t *testing.T) {
	for _, cidr := range []string{"10.1.0.0/24", "10.1.0.0/16", "fd00::/64"} {
		for _, others := range []int{0, 5000} {
			t.Run(fmt.Sprint(cidr, " beside ", others), func(t *testing.T) {
				if others > 0 && strings.HasSuffix(cidr, "/24") {
					return
				}
				store := &counted{Store: storetest.New(t)}
				i := newIPAM(t, store, "h1")
				pool, _ := i.pool(t, ipam.RequestPoolRequest{Pool: cidr})
				if others > 0 {
					claimed(t, store, parsed(t, pool).key, addrsFrom(netip.MustParsePrefix(cidr).Addr().Next().String(), others))
				}
				i.must(t, pool, "")
				const blocks = 4
				given := map[string]bool{}
				reads, writes, items := store.reads.Load(), store.writes.Load(), store.items.Load()
				for range 64 * blocks * 9 / 10 {
					if strings.HasSuffix(cidr, "/24") && len(given) == 250 {
						break
					}
					addr := i.must(t, pool, "")
					if given[addr] {
						t.Fatalf("%s is given twice", addr)
					}
					given[addr] = true
				}
				reads, writes, items = store.reads.Load()-reads, store.writes.Load()-writes, store.items.Load()-items
				t.Logf("%d addresses: %d reads of %d records, %d writes", len(given), reads, items, writes)
				if extra := writes - int64(len(given)); extra > blocks || reads > 2*blocks || items > 256 {
					t.Errorf("%d addresses: %d reads of %d records, %d writes", len(given), reads, items, writes)
				}
			})
		}
	}
}

// The gateway that nobody names is the network's, which is read alone.
func TestGatewayOfAFullNetwork(t *testing.T) {
	store := &counted{Store: storetest.New(t)}
	const gateway = "10.1.7.7"
	first, other := newIPAM(t, store, "h1"), newIPAM(t, store, "h2")
	pool, _ := first.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/16"})
	key := parsed(t, pool).key
	first.must(t, pool, gateway, asGateway)
	prefix := netip.MustParsePrefix("10.1.0.0/16")
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.PoolKey(key), records.Pool{Space: records.DefaultSpace, Prefix: prefix, Network: "net1", Users: []string{"*"}}),
		kvstore.Put(records.NetworkKey("net1"), fabric.Network{ID: "net1", Name: "foo", Subnets: []fabric.Subnet{
			{Prefix: prefix, Pool: key, Gateway: netip.MustParseAddr(gateway)},
		}}),
	}}); err != nil {
		t.Fatal(err)
	}
	claimed(t, store, key, addrsFrom("10.1.0.1", 1000))
	other.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/16"})
	reads, writes, items := store.reads.Load(), store.writes.Load(), store.items.Load()
	if given := other.must(t, pool, "", asGateway); given != gateway+"/16" {
		t.Errorf("the gateway is %s", given)
	}
	reads, writes, items = store.reads.Load()-reads, store.writes.Load()-writes, store.items.Load()-items
	if reads > 2 || writes > 0 || items > 2 {
		t.Errorf("%d reads of %d records, %d writes", reads, items, writes)
	}
}

// Hosts that take from a pool of blocks at once use it to the last address, and none
// is given twice; neither is one that was released and given again.
func TestBlocksToTheLastAddress(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared with Docker ", shared), func(t *testing.T) {
			r := newRigOn(t, storetest.New(t), 4, "10.1.0.0/24", shared)
			r.put(t, records.PoolKey(r.id), records.Pool{
				Space: records.DefaultSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24"), DockerIPAM: shared, BlockBits: 27,
			})
			var mu sync.Mutex
			holders := map[netip.Addr]int{}
			fill := func() {
				var wait sync.WaitGroup
				for n := range r.hosts {
					wait.Go(func() {
						for {
							addr, err := r.ask(t, n)
							if err != nil {
								if want := "pool 10.1.0.0/24 is full: all of its 254 addresses are in use"; err.Error() != want {
									t.Errorf("got %v, want %s", err, want)
								}
								return
							}
							mu.Lock()
							if other, twice := holders[addr]; twice {
								t.Errorf("%s was given to h%d and h%d", addr, other, n)
							}
							holders[addr] = n
							mu.Unlock()
						}
					})
				}
				wait.Wait()
				if len(holders) != 254 {
					t.Errorf("%d addresses were given, want 254", len(holders))
				}
			}
			fill()
			for addr, n := range holders {
				if n < 2 {
					r.release(t, n, addr)
					delete(holders, addr)
				}
			}
			fill()
		})
	}
}

// TestBlocksModel has hosts ask, release, die and leave at random in a pool of small
// blocks.
func TestBlocksModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const cidr = "10.1.0.0/26"
		subnet := netip.MustParsePrefix(cidr)
		shared := rapid.Bool().Draw(rt, "shared")
		r := newRig(t, 3, cidr, false)
		r.put(t, records.PoolKey(r.id), records.Pool{Space: records.DefaultSpace, Prefix: subnet, DockerIPAM: shared, BlockBits: 28})
		held, freed := map[netip.Addr]int{}, map[netip.Addr]time.Time{}
		size := records.Size(records.Bounds(subnet))
		rt.Repeat(map[string]func(*rapid.T){
			"ask": func(rt *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(rt, "times") {
					n := rapid.IntRange(0, 2).Draw(rt, "host")
					addr, err := r.ask(t, n)
					if full := len(held) == size; (err != nil) != full {
						rt.Fatalf("%d of %d are held, and the answer is %s, %v", len(held), size, addr, err)
					} else if full {
						return
					}
					if _, twice := held[addr]; twice || !records.Assignable(subnet, addr) {
						rt.Fatalf("%s was given out", addr)
					}
					if !shared && r.now.Sub(freed[addr]) < records.Quarantine {
						for free := range records.Addrs(subnet.Addr().Next(), records.LastOf(subnet).Prev(), false) {
							if _, taken := held[free]; !taken && freed[free].IsZero() {
								rt.Fatalf("%s was given out again after %v while %s is fresh", addr, r.now.Sub(freed[addr]), free)
							}
						}
					}
					held[addr] = n
				}
			},
			"release": func(rt *rapid.T) {
				addrs := slices.SortedFunc(maps.Keys(held), netip.Addr.Compare)
				for _, addr := range addrs[:min(len(addrs), rapid.IntRange(0, 20).Draw(rt, "count"))] {
					r.release(t, held[addr], addr)
					delete(held, addr)
					freed[addr] = r.now
				}
			},
			"release late": func(rt *rapid.T) { // what is another's by now, or nobody's
				n := rapid.IntRange(0, 2).Draw(rt, "host")
				addr := netip.AddrFrom4([4]byte{10, 1, 0, byte(rapid.IntRange(1, 62).Draw(rt, "address"))})
				if holder, taken := held[addr]; !taken || holder != n {
					r.release(t, n, addr)
				}
			},
			"by name": func(rt *rapid.T) { // as --ip and Docker's allocator choose
				n := rapid.IntRange(0, 2).Draw(rt, "host")
				addr := netip.AddrFrom4([4]byte{10, 1, 0, byte(rapid.IntRange(1, 62).Draw(rt, "address"))})
				_, taken := held[addr]
				if _, err := r.hosts[n].ask(t.Context(), r.pool, addr.String()); (err != nil) != taken {
					rt.Fatalf("%s, taken %v: %v", addr, taken, err)
				}
				if !taken {
					held[addr] = n
				}
			},
			"die": func(rt *rapid.T) { // and start again with nothing in memory
				n := rapid.IntRange(0, 2).Draw(rt, "host")
				r.hosts[n] = newIPAM(t, r.store, fmt.Sprint("h", n))
				r.hosts[n].claimer.Now = func() time.Time { return r.now }
			},
			"lose blocks": func(rt *rapid.T) {
				block := netip.AddrFrom4([4]byte{10, 1, 0, byte(16 * rapid.IntRange(0, 3).Draw(rt, "block"))})
				if _, err := r.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
					kvstore.Delete(records.BlockKey(r.id, netip.PrefixFrom(block, 28)))}}); err != nil {
					t.Fatal(err)
				}
			},
			"wait": func(rt *rapid.T) {
				r.now = r.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(rt, "seconds")) * time.Second)
			},
		})
	})
}

// BenchmarkAddresses claims and releases one beside others of the pool.
func BenchmarkAddresses(b *testing.B) {
	store, err := kvstore.StartEmbedded(b.Context(), kvstore.EmbeddedConfig{DataDir: b.TempDir(), Volatile: true})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for n, others := range []int{10, 1000, 10_000, 50_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			i := newIPAM(b, store, "h1")
			pool, _ := i.pool(b, ipam.RequestPoolRequest{Pool: fmt.Sprintf("10.%d.0.0/16", n)})
			claimed(b, store, fmt.Sprintf("default-10.%d.0.0-16", n), addrsFrom(fmt.Sprintf("10.%d.0.1", n), others))
			i.must(b, pool, "")
			for b.Loop() {
				i.must(b, pool, "")
			}
		})
	}
}
