package records

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
)

// left lists the keys that are in the store.
func left(t *testing.T, store kvstore.Store) []string {
	t.Helper()
	snapshot, err := store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for key := range snapshot.Items {
		keys = append(keys, key)
	}
	return keys
}

func attachAll(t *testing.T, store kvstore.Store, hosts int, network fabric.Network, a Attaching) {
	t.Helper()
	for n := range hosts {
		if err := (Records{Store: store, Host: fmt.Sprint("h", n)}).Attach(t.Context(), network, a); err != nil {
			t.Fatal(err)
		}
	}
}

// An older version made networks of any size.
func TestOldLargeNetworkLeavesNothing(t *testing.T) {
	store := storetest.New(t)
	old := fabric.Network{ID: "n1", Name: "foo", VNI: 7}
	for n := range 500 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n / 256), byte(n), 0}), 24)
		old.Subnets = append(old.Subnets, fabric.Subnet{Pool: PoolID(DefaultSpace, prefix), Prefix: prefix})
		pool := old.Subnets[n].Pool
		put(t, store, kvstore.Put(PoolKey(pool), Pool{Prefix: prefix, Network: "n1"}),
			kvstore.Put(AddressKey(pool, prefix.Addr().Next()), Address{Kind: KindGateway}))
	}
	put(t, store, kvstore.Put(NetworkKey("n1"), old), kvstore.Put(NameKey("foo"), "n1"), kvstore.Put(VNIKey(7), "n1"))
	r := Records{Store: store, Host: "h1"}
	if err := r.Attach(t.Context(), old, Attaching{DockerID: "d1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(t.Context(), "d1", false); err != nil {
		t.Fatal(err)
	}
	if keys := left(t, store); len(keys) > 0 {
		t.Errorf("%d records are left, such as %s", len(keys), keys[0])
	}
}

// The removal of a network on many hosts is one transaction for each of them.
func TestNetworkOfManyHosts(t *testing.T) {
	store := storetest.New(t)
	const hosts = 300
	network := fabric.Network{ID: "n1"}
	put(t, store, kvstore.Put(NetworkKey("n1"), network))
	attachAll(t, store, hosts, network, Attaching{DockerID: "d"})
	for n := range hosts {
		if keys := left(t, store); len(keys) < 3 {
			t.Fatalf("%v are left with %d hosts", keys, hosts-n)
		}
		if err := (Records{Store: store, Host: fmt.Sprint("h", n)}).Detach(t.Context(), "d", false); err != nil {
			t.Fatal(err)
		}
	}
	if keys := left(t, store); len(keys) > 0 {
		t.Errorf("left are %v", keys)
	}
}

func TestSwarmNetworkOfManyNodes(t *testing.T) {
	store := storetest.New(t)
	network := fabric.Network{ID: "s1", Swarm: true}
	put(t, store, kvstore.Put(NetworkKey("s1"), network))
	attachAll(t, store, 300, network, Attaching{DockerID: "s1", Mirror: true})
	if err := (Records{Store: store}).DeleteSwarmNetwork(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	if keys := left(t, store); len(keys) > 0 {
		t.Errorf("left are %v", keys)
	}
}

func TestLastRemoval(t *testing.T) {
	for name, test := range map[string]struct {
		other   *Member
		network fabric.Network
		stays   bool
	}{
		"no other host":                      {},
		"a host whose mirror follows":        {other: &Member{Mirror: true}},
		"a host without a mirror":            {other: &Member{}, stays: true},
		"a stopped container on that host":   {other: &Member{Mirror: true, Configured: 1}, stays: true},
		"another node of a swarm's network":  {other: &Member{Mirror: true}, network: fabric.Network{Swarm: true}, stays: true},
		"no other node of a swarm's network": {network: fabric.Network{Swarm: true}},
	} {
		t.Run(name, func(t *testing.T) {
			store := storetest.New(t)
			test.network.ID = "n1"
			put(t, store, kvstore.Put(NetworkKey("n1"), test.network))
			r := Records{Store: store, Host: "h1"}
			for _, id := range []string{"d1", "d2"} { // two of Docker's networks may be one of the cluster's
				if err := r.Attach(t.Context(), test.network, Attaching{DockerID: id}); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.SetConfigured(t.Context(), "n1", 3); err != nil { // this host's own do not count
				t.Fatal(err)
			}
			if err := r.Detach(t.Context(), "d1", true); err != nil {
				t.Fatal(err)
			}
			if got := read[Member](t, store, MemberKey("n1", "h1")); got.Configured != 3 {
				t.Errorf("with an attachment left the member is %+v", got)
			}
			if test.other != nil {
				put(t, store, kvstore.Put(MemberKey("n1", "h2"), test.other))
			}
			if err := r.Detach(t.Context(), "d2", false); err != nil {
				t.Fatal(err)
			}
			keys := strings.Join(left(t, store), " ")
			if strings.Contains(keys, "h1") || strings.Contains(keys, "networks/n1") != test.stays {
				t.Errorf("left are %s", keys)
			}
		})
	}
}

func TestSyncMembers(t *testing.T) {
	store := storetest.New(t)
	put(t, store, kvstore.Put(NetworkKey("n1"), fabric.Network{ID: "n1"}),
		kvstore.Put(AttachmentKey("h1", "d1"), Attachment{Network: "n1"})) // as an older version wrote it
	r := Records{Store: store, Host: "h1"}
	for _, mirror := range []bool{false, true, true} {
		if err := r.SyncMembers(t.Context(), mirror); err != nil {
			t.Fatal(err)
		}
		if got := read[Member](t, store, MemberKey("n1", "h1")); got.Mirror != mirror {
			t.Errorf("with a mirror %v the member is %+v", mirror, got)
		}
	}
	if err := r.ReleaseMembers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if members, err := store.List(t.Context(), MembersPrefix); err != nil || len(members.Items) > 0 {
		t.Errorf("left are %v, %v", members.Items, err)
	}
}

// A host that has a network asks for its subnet once more: that is a mistake, and
// not one network that several hosts create at once.
func TestSubnetOfANetworkThatTheHostHas(t *testing.T) {
	store, prefix := storetest.New(t), netip.MustParsePrefix("10.1.0.0/24")
	create := func(host, id string) error {
		r := Records{Store: store, Host: host}
		if _, _, err := r.RequestPool(t.Context(), PoolRequest{Space: DefaultSpace, Prefix: prefix}); err != nil {
			return err
		}
		network := fabric.Network{ID: id, Mode: fabric.ModeVXLAN, Subnets: []fabric.Subnet{{Prefix: prefix}}}
		return r.CreateNetwork(t.Context(), network, Attaching{DockerID: id}, func(fabric.Network) error { return nil })
	}
	if err := create("h1", "n1"); err != nil {
		t.Fatal(err)
	}
	network := read[fabric.Network](t, store, NetworkKey("n1"))
	h2 := Records{Store: store, Host: "h2"}
	if _, _, err := h2.RequestPool(t.Context(), PoolRequest{Space: DefaultSpace, Prefix: prefix}); err != nil {
		t.Fatal(err)
	}
	if err := h2.Attach(t.Context(), network, Attaching{DockerID: "d2"}); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"h1", "h2"} {
		if err := create(host, "n2"); err == nil || !strings.Contains(err.Error(), "overlaps 10.1.0.0/24 of network n1") {
			t.Errorf("%s: got %v", host, err)
		}
	}
	if err := create("h3", "n3"); err != nil {
		t.Errorf("a host that has not: %v", err)
	}
}
