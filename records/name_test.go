package records

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
)

func put(t *testing.T, store kvstore.Store, ops ...kvstore.Op) {
	t.Helper()
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: ops}); err != nil {
		t.Fatal(err)
	}
}

func read[T any](t *testing.T, store kvstore.Store, key string) T {
	t.Helper()
	value, _, err := kvstore.Read[T](t.Context(), store, key)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestNameNetwork(t *testing.T) {
	store := storetest.New(t)
	r := Records{Store: store, Host: "h1"}
	put(t, store,
		kvstore.Put(NetworkKey("n1"), fabric.Network{ID: "n1"}), kvstore.Put(NetworkKey("n2"), fabric.Network{ID: "n2"}),
		kvstore.Put(NameKey("left"), "gone"))
	label := func(n *fabric.Network) { n.Labels = map[string]string{"a": "b"} }
	if named, err := r.NameNetwork(t.Context(), "n1", "foo", label); !named || err != nil {
		t.Fatal(named, err)
	}
	if n := read[fabric.Network](t, store, NetworkKey("n1")); n.Name != "foo" || n.Labels["a"] != "b" || read[string](t, store, NameKey("foo")) != "n1" {
		t.Errorf("the record is %+v", n)
	}
	if named, err := r.NameNetwork(t.Context(), "n1", "foo", label); named || err != nil {
		t.Errorf("named again: %v, %v", named, err)
	}
	if _, err := r.NameNetwork(t.Context(), "n2", "foo", label); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a name twice: %v", err)
	}
	if named, err := r.NameNetwork(t.Context(), "n2", "left", label); !named || err != nil {
		t.Errorf("the name of a network that is gone: %v, %v", named, err)
	}
}

func TestNameEndpoint(t *testing.T) {
	store := storetest.New(t)
	r := Records{Store: store, Host: "h1"}
	network := fabric.Network{ID: "n1", Subnets: []fabric.Subnet{{Pool: "p", Prefix: netip.MustParsePrefix("10.1.0.0/24")}}}
	addr := netip.MustParseAddr("10.1.0.2")
	put(t, store,
		kvstore.Put(EndpointKey("n1", "e1"), fabric.Endpoint{ID: "e1", Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}}),
		kvstore.Put(AddressKey("p", addr), Address{Kind: KindEndpoint, Host: "h1", Endpoint: "e1"}))
	names := []string{"busybox", "web", "0123456789ab"}
	for id, want := range map[string]bool{"e1": true, "e9": false} {
		if there, err := r.NameEndpoint(t.Context(), network, id, names); err != nil || there != want {
			t.Fatalf("%s: there %v, %v", id, there, err)
		}
	}
	if got := read[fabric.Endpoint](t, store, EndpointKey("n1", "e1")); got.Name != "busybox" || !slices.Equal(got.Names, names) {
		t.Errorf("the endpoint is called %q and %q", got.Name, got.Names)
	}
	if got := read[Address](t, store, AddressKey("p", addr)).Name; got != "busybox" {
		t.Errorf("the claim is called %q", got)
	}
}
