package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// rig is some hosts that share a pool, and their clock.
type rig struct {
	store kvstore.Store
	hosts []*IPAM
	pool  string
	id    string
	now   time.Time
}

// newRig makes the pool; with shared, Docker's own allocator has part in it.
func newRig(t *testing.T, hosts int, cidr string, shared bool) *rig {
	t.Helper()
	return newRigOn(t, storetest.New(t), hosts, cidr, shared)
}

func newRigOn(t *testing.T, store kvstore.Store, hosts int, cidr string, shared bool) *rig {
	t.Helper()
	r := &rig{store: store, now: time.Now()}
	for n := range hosts {
		host := newIPAM(t, r.store, fmt.Sprint("h", n))
		host.claimer.Now = func() time.Time { return r.now }
		r.pool, _ = host.pool(t, ipam.RequestPoolRequest{Pool: cidr})
		r.hosts = append(r.hosts, host)
	}
	r.id = parsed(t, r.pool).key
	if shared {
		r.put(t, records.PoolKey(r.id), records.Pool{Space: records.DefaultSpace, Prefix: netip.MustParsePrefix(cidr), DockerIPAM: true})
	}
	return r
}

func (r *rig) put(t *testing.T, key string, value any) {
	t.Helper()
	if _, err := r.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, value)}}); err != nil {
		t.Fatal(err)
	}
}

// ask claims any address on host n.
func (r *rig) ask(t *testing.T, n int) (netip.Addr, error) {
	text, err := r.hosts[n].ask(t.Context(), r.pool, "")
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.MustParsePrefix(text).Addr(), nil
}

func (r *rig) release(t *testing.T, n int, addr netip.Addr) {
	t.Helper()
	if err := r.hosts[n].release(t.Context(), r.pool, addr.String()); err != nil {
		t.Fatal(err)
	}
}

// TestModel has hosts ask and release at random: no address has two holders,
// all are assignable, and a freed one is quarantined.
func TestModel(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared with Docker ", shared), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { checkModel(t, rt, shared) })
		})
	}
}

func checkModel(t *testing.T, rt *rapid.T, shared bool) {
	bits := rapid.IntRange(25, 30).Draw(rt, "bits")
	subnet := netip.PrefixFrom(netip.MustParseAddr("10.1.0.0"), bits)
	first, last := records.Bounds(subnet)
	all := slices.Collect(records.Addrs(first, last, true))
	r := newRig(t, 3, subnet.String(), shared)
	held, freed := map[netip.Addr]int{}, map[netip.Addr]time.Time{}
	inQuarantine := func(addr netip.Addr, d time.Duration) bool { return r.now.Sub(freed[addr]) < d }
	check := func(rt *rapid.T, addr netip.Addr) {
		free := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { _, taken := held[a]; return taken })
		if !shared {
			ever := func(a netip.Addr) bool { _, ever := freed[a]; return ever }
			if fresh := slices.DeleteFunc(free, ever); len(fresh) > 0 && inQuarantine(addr, records.KeepFreed) {
				rt.Fatalf("%s was given out again while %v are fresh", addr, fresh)
			}
			return
		}
		upper := free[:max(1, len(free)/4)]
		if !slices.Contains(upper, addr) {
			rt.Fatalf("%s was given out; the upper of the free addresses are %v", addr, upper)
		}
		best := slices.IndexFunc(upper, func(a netip.Addr) bool { return !inQuarantine(a, records.Quarantine) })
		if best >= 0 && upper[best] != addr {
			rt.Fatalf("%s was given out, and not %s", addr, upper[best])
		}
	}
	rt.Repeat(map[string]func(*rapid.T){
		"ask": func(rt *rapid.T) {
			n := rapid.IntRange(0, 2).Draw(rt, "host")
			addr, err := r.ask(t, n)
			if full := len(held) == len(all); (err != nil) != full {
				rt.Fatalf("%d of %d are held, and the answer is %s, %v", len(held), len(all), addr, err)
			} else if full {
				return
			}
			if _, twice := held[addr]; twice || !records.Assignable(subnet, addr) {
				rt.Fatalf("%s was given out", addr)
			}
			check(rt, addr)
			held[addr] = n
		},
		"release": func(rt *rapid.T) {
			if len(held) == 0 {
				return
			}
			addr := rapid.SampledFrom(slices.SortedFunc(maps.Keys(held), netip.Addr.Compare)).Draw(rt, "address")
			by := rapid.IntRange(0, 2).Draw(rt, "host")
			r.release(t, by, addr)
			if by == held[addr] { // another's release is ignored
				delete(held, addr)
				freed[addr] = r.now
			}
		},
		"wait": func(rt *rapid.T) {
			r.now = r.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(rt, "seconds")) * time.Second)
		},
	})
}

// TestFreedAddressesAreForgotten frees many, and some of them later.
func TestFreedAddressesAreForgotten(t *testing.T) {
	store := storetest.New(t)
	i, now := newIPAM(t, store, "h1"), time.Now()
	i.claimer.Now = func() time.Time { return now }
	pool, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"})
	id := parsed(t, pool).key
	addr := netip.MustParseAddr("10.1.0.1")
	// One that Docker's allocator has part in is read for each address.
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.PoolKey(id),
		records.Pool{Space: records.DefaultSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24"), DockerIPAM: true})}}); err != nil {
		t.Fatal(err)
	}
	free := func(count int, record records.Address) {
		t.Helper()
		var txn kvstore.Txn
		for range count {
			txn.Then = append(txn.Then, kvstore.Put(records.AddressKey(id, addr), record))
			addr = addr.Next()
		}
		if _, err := store.Commit(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
	}
	left := func(want int) {
		t.Helper()
		i.must(t, pool, "")
		now = now.Add(time.Second)
		snapshot, err := store.List(t.Context(), records.PoolAddresses(id))
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[records.AddressKind]int{}
		addresses, err := kvstore.DecodeAll[records.Address](snapshot, "")
		for _, address := range addresses {
			kinds[address.Kind]++
		}
		if kinds[records.KindFree] != want || kinds[records.KindForeign] != 3 || err != nil {
			t.Errorf("%v are left, %v; want %d that are free", kinds, err, want)
		}
	}
	free(120, records.Address{Kind: records.KindFree}) // by one who tells no time
	free(3, records.Address{Kind: records.KindForeign})
	free(90, records.Freed(i.claimer.Now()))
	left(110) // a hundred at a time
	left(110) // too few to be worth it
	now = now.Add(records.KeepFreed)
	left(10)
	free(30, records.Freed(i.claimer.Now()))
	left(40)
}

// dockerHost is the host whose Docker has its own allocator, which hands out
// the lowest address that it has not given out itself.
type dockerHost struct {
	*rig
	pool netip.Prefix
	held map[netip.Addr]bool
}

// start claims as the driver's CreateEndpoint does.
func (d *dockerHost) start(t *testing.T) error {
	first, last := records.Bounds(d.pool)
	for addr := range records.Addrs(first, last, false) {
		if d.held[addr] {
			continue
		}
		key := records.AddressKey(d.id, addr)
		item, err := d.store.Get(t.Context(), key)
		if err == nil {
			if holder, err := kvstore.Decode[records.Address](item); err != nil || holder.Kind != records.KindFree {
				return fmt.Errorf("chosen was %s, which is in use %s", addr, holder.Holder())
			}
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		d.put(t, key, records.Address{Kind: records.KindEndpoint, Host: "docker", Endpoint: "e"})
		d.held[addr] = true
		return nil
	}
	return errors.New("none is left")
}

func (d *dockerHost) stop(t *testing.T, addr netip.Addr) {
	t.Helper()
	d.put(t, records.AddressKey(d.id, addr), records.Freed(d.now))
	delete(d.held, addr)
}

func newDockerHost(t *testing.T) *dockerHost {
	d := &dockerHost{rig: newRig(t, 2, "10.1.0.0/28", true), pool: netip.MustParsePrefix("10.1.0.0/28"), held: map[netip.Addr]bool{}}
	gateway := netip.MustParseAddr("10.1.0.1")
	d.put(t, records.AddressKey(d.id, gateway), records.Address{Kind: records.KindGateway})
	d.held[gateway] = true
	return d
}

// TestShortContainersLeaveDockerItsAddresses has a mirror's containers come and
// go while their addresses are in quarantine.
func TestShortContainersLeaveDockerItsAddresses(t *testing.T) {
	d := newDockerHost(t)
	for range 11 {
		addr, err := d.ask(t, 0)
		if err != nil {
			t.Fatal(err)
		}
		d.release(t, 0, addr)
	}
	if addr, err := d.ask(t, 0); err != nil || addr.Less(netip.MustParseAddr("10.1.0.12")) {
		t.Errorf("the one that stays has %s, %v", addr, err)
	}
	for n := range 9 {
		if err := d.start(t); err != nil {
			t.Fatalf("container %d of the creating host: %v", n, err)
		}
	}
	for range 3 { // to the last address
		if _, err := d.ask(t, 1); err != nil {
			t.Fatal(err)
		}
	}
	if addr, err := d.ask(t, 1); err == nil {
		t.Errorf("the pool is full and %s was given out", addr)
	}
}

// TestDockerAndMirrorsChurn lets both fill what they can of a pool at once.
func TestDockerAndMirrorsChurn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDockerHost(t)
		gateway := netip.MustParseAddr("10.1.0.1")
		mirrors := map[netip.Addr]int{}
		pick := func(rt *rapid.T, addrs []netip.Addr) netip.Addr {
			slices.SortFunc(addrs, netip.Addr.Compare)
			return rapid.SampledFrom(addrs).Draw(rt, "address")
		}
		const most = 5 // for each side: 10 of 13, and some in quarantine
		rt.Repeat(map[string]func(*rapid.T){
			"docker starts": func(rt *rapid.T) {
				if len(d.held) > most {
					return
				}
				if err := d.start(t); err != nil {
					rt.Fatal(err)
				}
			},
			"docker stops": func(rt *rapid.T) {
				own := slices.DeleteFunc(slices.Collect(maps.Keys(d.held)), func(a netip.Addr) bool { return a == gateway })
				if len(own) > 0 {
					d.stop(t, pick(rt, own))
				}
			},
			"mirror starts": func(rt *rapid.T) {
				if len(mirrors) == most {
					return
				}
				n := rapid.IntRange(0, 1).Draw(rt, "host")
				addr, err := d.ask(t, n)
				if err != nil {
					rt.Fatal(err)
				}
				mirrors[addr] = n
			},
			"mirror's short ones": func(rt *rapid.T) {
				for range min(most-len(mirrors), 1) * rapid.IntRange(1, 12).Draw(rt, "containers") {
					addr, err := d.ask(t, 0)
					if err != nil {
						rt.Fatal(err)
					}
					d.release(t, 0, addr)
				}
			},
			"mirror stops": func(rt *rapid.T) {
				if len(mirrors) > 0 {
					addr := pick(rt, slices.Collect(maps.Keys(mirrors)))
					d.release(t, mirrors[addr], addr)
					delete(mirrors, addr)
				}
			},
			"wait": func(rt *rapid.T) {
				d.now = d.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(rt, "seconds")) * time.Second)
			},
		})
	})
}
