package records

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Docker's allocator offers an address that another host has: the error names a
// free one, or says that the pool is full as causeway's IPAM does.
func TestAddressInUseOnTheCreator(t *testing.T) {
	r := newRig(t)
	r.mustCreate("h1", "n1", true, "10.1.0.0/29")
	network, err := r.host("h1").Network(t.Context(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	put := func(host string, n int) error {
		addr := netip.MustParseAddr(fmt.Sprint("10.1.0.", n))
		endpoint := fabric.Endpoint{ID: fmt.Sprint(host, "e", n), Network: "n1", Host: host, Addrs: []netip.Prefix{netip.PrefixFrom(addr, 29)}}
		_, err := r.host(host).PutEndpoint(t.Context(), network, endpoint, "", true, nil)
		return err
	}
	for _, n := range []int{2, 3, 5, 6} {
		if err := put("h2", n); err != nil {
			t.Fatal(err)
		}
	}
	const inUse = "address 10.1.0.2 on network n1 is in use by host h2: start the container with another --ip (10.1.0.4 is free), or create the network with --ipam-driver causeway"
	if err := put("h1", 2); err == nil || err.Error() != inUse {
		t.Errorf("got %v\nwant %s", err, inUse)
	}
	if err := put("h1", 4); err != nil {
		t.Fatal(err)
	}
	const full = "pool 10.1.0.0/29 is full: all of its 6 addresses are in use"
	if err := put("h1", 2); err == nil || err.Error() != full {
		t.Errorf("got %v\nwant %s", err, full)
	}
}

// A record of an address that cannot be read is in use, and hides no other.
func TestUnreadableAddressIsInUse(t *testing.T) {
	r := newRig(t)
	pool := r.request("h1", DefaultSpace, "10.1.0.0/30")
	broken := netip.MustParseAddr("10.1.0.2")
	if _, err := r.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(AddressKey(pool, broken), 7), kvstore.Put(PoolAddresses(pool)+"nonsense", 7),
	}}); err != nil {
		t.Fatal(err)
	}
	v, err := r.host("h1").ViewPool(t.Context(), pool, Pool{Prefix: netip.MustParsePrefix("10.1.0.0/30")}, netip.Prefix{})
	if err != nil || v.Free(broken) || v.Room() != 0 {
		t.Errorf("%v is free, %d are left, %v", v.Free(broken), v.Room(), err)
	}
}
