package records

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
)

// rig is some hosts at one store, and their clock.
type rig struct {
	*testing.T
	store kvstore.Store
	now   time.Time
	// nameless has networks created without a name, as under a mirror.
	nameless bool
}

func newRig(t *testing.T) *rig { return &rig{T: t, store: storetest.New(t), now: time.Now()} }

func (r *rig) host(name string) Records {
	return Records{Store: r.store, Host: name, Now: func() time.Time { return r.now }}
}

// request asks for a pool as an engine does for causeway's IPAM, and for its gateway.
func (r *rig) request(host, space, prefix string) string {
	r.Helper()
	id, pool, err := r.host(host).RequestPool(r.Context(), PoolRequest{Space: space, Prefix: netip.MustParsePrefix(prefix)})
	if err != nil {
		r.Fatal(err)
	}
	c := Claimer{Records: r.host(host)}
	if _, err := c.Claim(r.Context(), AddressRequest{Pool: id, Addr: pool.Prefix.Addr().Next(), Gateway: true}); err != nil {
		r.Fatal(err)
	}
	return id
}

// create records a network; dockerIPAM says that Docker's allocator gave the subnet.
func (r *rig) create(host, id string, mode fabric.Mode, dockerIPAM bool, prefixes ...string) (string, error) {
	r.Helper()
	want := fabric.Network{ID: id, Mode: mode}
	if !r.nameless {
		want.Name = id
	}
	for _, text := range prefixes {
		prefix := netip.MustParsePrefix(text)
		want.Subnets = append(want.Subnets, fabric.Subnet{Prefix: prefix, Gateway: prefix.Addr().Next()})
	}
	attaching := Attaching{DockerID: strings.Repeat(id, 16), Attachment: Attachment{DockerIPAM: dockerIPAM}}
	err := kvstore.Retry(r.Context(), id, func() error {
		return r.host(host).CreateNetwork(r.Context(), want, attaching, func(fabric.Network) error { return nil })
	})
	return want.Subnets[0].Pool, err
}

func (r *rig) mustCreate(host, id string, dockerIPAM bool, prefix string) string {
	r.Helper()
	pool, err := r.create(host, id, fabric.ModeVXLAN, dockerIPAM, prefix)
	if err != nil {
		r.Fatal(err)
	}
	return pool
}

// owner is the network of a pool.
func (r *rig) owner(id string) string {
	r.Helper()
	pool, err := r.host("h1").Pool(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	return pool.Network
}

// A network of another driver on causeway's IPAM keeps its pool, whatever
// networks of causeway's have the same subnet.
func TestAnotherDriversPoolIsNotTaken(t *testing.T) {
	const subnet = "10.1.0.0/24"
	for name, test := range map[string]struct {
		space      string // that causeway's network requests its pool in; "": Docker's IPAM
		macvlan    string // the host of the other network
		gap        time.Duration
		want, fail string
	}{
		"Docker's IPAM":          {macvlan: "h1", want: "net.c1-10.1.0.0-24"},
		"Docker's IPAM, h2":      {macvlan: "h2", want: "net.c1-10.1.0.0-24"},
		"another space":          {space: "blue", macvlan: "h1", gap: time.Second, want: "blue-10.1.0.0-24"},
		"the same space":         {space: "default", macvlan: "h1", fail: "subnet 10.1.0.0/24 overlaps 10.1.0.0/24 of a network on [h1]: give another --subnet, or put it in an address space of its own with --ipam-opt space=NAME"},
		"the same space, h2's":   {space: "default", macvlan: "h2", gap: time.Minute, fail: "subnet 10.1.0.0/24 overlaps 10.1.0.0/24 of a network on [h1 h2]: give another --subnet, or put it in an address space of its own with --ipam-opt space=NAME"},
		"requested after, space": {space: "zzz", macvlan: "h1", gap: time.Second, want: "zzz-10.1.0.0-24"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			other := r.request(test.macvlan, DefaultSpace, subnet)
			r.now = r.now.Add(test.gap)
			if test.space != "" {
				r.request("h1", test.space, subnet)
			}
			got, err := r.create("h1", "c1", fabric.ModeVXLAN, test.space == "", subnet)
			if test.fail == "" && (err != nil || got != test.want) || test.fail != "" && (err == nil || err.Error() != test.fail) {
				t.Errorf("the network has %s, %v; want %s%s", got, err, test.want, test.fail)
			}
			if owner := r.owner(other); owner != "" {
				t.Errorf("the pool of the other driver's network belongs to %s now", owner)
			}
		})
	}
}

// Docker's allocators of two hosts choose one subnet for two networks.
func TestOverlappingNetworksOfDockersIPAM(t *testing.T) {
	r := newRig(t)
	first := r.mustCreate("h1", "n1", true, "172.19.0.0/16")
	second := r.mustCreate("h2", "n2", true, "172.19.0.0/16")
	third := r.mustCreate("h2", "n3", true, "172.19.4.0/24")
	if want := []string{"default-172.19.0.0-16", "net.n2-172.19.0.0-16", "net.n3-172.19.4.0-24"}; !slices.Equal([]string{first, second, third}, want) {
		t.Errorf("the pools are %s, %s, %s; want %s", first, second, third, want)
	}
	// A mirror's engine asks causeway's IPAM for the pool of that very network.
	if id := r.request("h3", "net.n2", "172.19.0.0/16"); id != second {
		t.Errorf("the mirror of n2 has pool %s, want %s", id, second)
	}
	if _, err := r.create("h2", "n4", fabric.ModeUnderlay, true, "172.19.0.0/24"); err == nil ||
		err.Error() != "subnet 172.19.0.0/24 overlaps 172.19.0.0/16 of network n1: give another --subnet, or have one picked by --ipam-driver causeway" {
		t.Errorf("underlay: %v", err)
	}
	if _, err := r.create("h2", "n5", fabric.ModeVXLAN, true, "172.19.0.0/24", "172.19.0.0/25"); err == nil ||
		err.Error() != "subnets 172.19.0.0/25 and 172.19.0.0/24 of the network overlap" {
		t.Errorf("a network that overlaps itself: %v", err)
	}
}

// Three hosts create the same network in one moment, each step in any order; one
// more network of that subnet, later, is refused where causeway's IPAM gives it.
func TestOneNetworkOnThreeHostsAtOnce(t *testing.T) {
	const subnet = "10.1.0.0/24"
	hosts := []string{"h1", "h2", "h3"}
	for _, order := range []string{"requests first", "one after the other"} {
		for _, dockerIPAM := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, Docker's IPAM %v", order, dockerIPAM), func(t *testing.T) {
				r := newRig(t)
				pools := map[string]bool{}
				for n, host := range hosts {
					if order == "requests first" && n == 0 && !dockerIPAM {
						for _, host := range hosts {
							r.request(host, DefaultSpace, subnet)
						}
					} else if order != "requests first" && !dockerIPAM {
						r.request(host, DefaultSpace, subnet)
					}
					r.now = r.now.Add(time.Second)
					pools[r.mustCreate(host, fmt.Sprint("n", n), dockerIPAM, subnet)] = true
				}
				if len(pools) != 3 {
					t.Errorf("the pools are %v", pools)
				}
				r.now = r.now.Add(time.Minute)
				r.request("h4", DefaultSpace, subnet)
				_, err := r.create("h4", "n9", fabric.ModeVXLAN, false, subnet)
				if want := "subnet 10.1.0.0/24 overlaps 10.1.0.0/24 of network n0"; err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("a later network: %v, want %s", err, want)
				}
			})
		}
	}
}

// Two hosts create one network at once on causeway's IPAM. The second one's engine
// asks for addresses of the first one's pool, so the first gets the name.
func TestTheFirstToBindAPoolIsNamedFirst(t *testing.T) {
	const subnet = "10.1.0.0/24"
	for name, wantErr := range map[string]error{"foo": ErrNameTaken, "bar": nil} {
		r := newRig(t)
		r.nameless = true
		r.request("h1", DefaultSpace, subnet)
		r.request("h2", DefaultSpace, subnet)
		r.mustCreate("h1", "n1", false, subnet)
		r.mustCreate("h2", "n2", false, subnet)
		describe := func(*fabric.Network) {}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if named, err := r.host("h2").NameNetwork(ctx, "n2", name, describe); named || err == nil {
			t.Errorf("the second is called %s before the first has a name: %v", name, err)
		}
		if named, err := r.host("h1").NameNetwork(t.Context(), "n1", "foo", describe); !named || err != nil {
			t.Errorf("the first is not named: %v", err)
		}
		if named, err := r.host("h2").NameNetwork(t.Context(), "n2", name, describe); !errors.Is(err, wantErr) || named != (wantErr == nil) {
			t.Errorf("the second is called %s: %v, %v; want %v", name, named, err, wantErr)
		}
	}
}

// A record of a pool that cannot be read still keeps its subnet.
func TestUnreadablePoolKeepsItsSubnet(t *testing.T) {
	r := newRig(t)
	if _, err := r.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(PoolKey("default-10.1.0.0-24"), 7), kvstore.Put(PoolKey("nonsense"), 7),
	}}); err != nil {
		t.Fatal(err)
	}
	if got := r.mustCreate("h1", "n1", true, "10.1.0.0/16"); got != "net.n1-10.1.0.0-16" {
		t.Errorf("the pool is %s", got)
	}
	r.mustCreate("h1", "n2", true, "10.2.0.0/16")
}

// A routed network is routed by block, so its pools are given out by blocks alone.
func TestRoutedNetworksPoolsHaveBlocks(t *testing.T) {
	r := newRig(t)
	for prefix, want := range map[string]int{"10.1.0.0/24": 26, "10.2.0.0/28": 28, "fd00:1::/64": 122} {
		id, err := r.create("h1", "n"+prefix[:4], fabric.ModeRouted, true, prefix)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := r.host("h1").Pool(t.Context(), id)
		if err != nil || pool.BlockBits != want {
			t.Errorf("%s has blocks of /%d, %v; want /%d", prefix, pool.BlockBits, err, want)
		}
		c := Claimer{Records: r.host("h2"), Choices: func(v *PoolView) iter.Seq[netip.Addr] { return Addrs(v.First, v.Last, true) }}
		given, err := c.Claim(t.Context(), AddressRequest{Pool: id})
		if err != nil {
			t.Fatal(err)
		}
		block, _, err := kvstore.Read[Block](t.Context(), r.store, BlockKey(id, netip.PrefixFrom(given.Addr(), want)))
		if err != nil || block.Host != "h2" {
			t.Errorf("%s is of block %+v, %v; want one of h2", given, block, err)
		}
	}
}

// Hosts that request a pool which is there write a record each; what an older version
// kept in the pool's record moves to its host's own, and keeps the pool until then.
func TestUsersOfAPool(t *testing.T) {
	r := newRig(t)
	old := Pool{Space: DefaultSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24"), Users: []string{"h1", "h1", "h3"}}
	const id = "default-10.1.0.0-24"
	put(t, r.store, kvstore.Put(PoolKey(id), old))
	request := func(host string) {
		t.Helper()
		if _, _, err := r.host(host).RequestPool(t.Context(), PoolRequest{Space: DefaultSpace, Prefix: old.Prefix}); err != nil {
			t.Fatal(err)
		}
	}
	revision := func() int64 {
		t.Helper()
		item, err := r.store.Get(t.Context(), PoolKey(id))
		if err != nil {
			t.Fatal(err)
		}
		return item.Revision
	}
	request("h2")
	before := revision()
	request("h4")
	request("h2")
	if after := revision(); after != before {
		t.Errorf("a request rewrote the pool's record: %d, before %d", after, before)
	}
	for _, host := range []string{"h2", "h2", "h4", "h1", "h1", "h3"} {
		revision() // it is there still
		if err := r.host(host).ReleasePool(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
	}
	if keys := left(t, r.store); len(keys) > 0 {
		t.Errorf("%v are left", keys)
	}
}
