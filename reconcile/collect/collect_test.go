package collect_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestDeadEndpointIsDeletedAfterGrace(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1, hosttest.Collecting)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	begin := time.Now()
	h1.Plane.Set(func(s *hosttest.State) { s.Living["e1"] = false })
	hosttest.Eventually(t, "the endpoint is deleted", func() bool { return !h1.Has(t, records.EndpointKey(foo.ID, "e1")) })
	if took := time.Since(begin); took < hosttest.Grace {
		t.Errorf("it was deleted after %v", took)
	}
	h1.PutEndpoint(t, foo, "e2", "192.168.1.2")
}

// kind reads what an address is claimed for.
func kind(t *testing.T, store kvstore.Store, key string) records.AddressKind {
	t.Helper()
	address, _, err := kvstore.Read[records.Address](t.Context(), store, key)
	if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
		t.Fatal(err)
	}
	return address.Kind
}

// Docker died between RequestAddress and CreateEndpoint, or before ReleaseAddress.
func TestLeakedClaimsAreReleased(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1, hosttest.Collecting)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	key := func(addr string) string { return records.AddressKey(foo.Subnets[0].Pool, netip.MustParseAddr(addr)) }
	h1.Enter(t, foo, "e1", "192.168.1.2")
	h1.Enter(t, foo, "e2", "192.168.1.3")
	h1.Commit(t,
		kvstore.Put(key("192.168.1.4"), records.Address{Kind: records.KindEndpoint, Host: "h1"}),
		kvstore.Put(key("192.168.1.5"), records.Address{Kind: records.KindEndpoint, Host: "h2"}),
		kvstore.Put(key("192.168.1.6"), records.Address{Kind: records.KindEndpoint, Host: "h1", Endpoint: "e9"}))
	if _, err := h1.Records.DeleteEndpoint(t.Context(), foo, "e1", false); err != nil {
		t.Fatal(err)
	}
	for _, leaked := range []string{"192.168.1.2", "192.168.1.4", "192.168.1.6"} {
		hosttest.Eventually(t, leaked+" is released", func() bool { return kind(t, store, key(leaked)) == records.KindFree })
	}
	for _, held := range []string{"192.168.1.3", "192.168.1.5"} {
		if kind(t, store, key(held)) != records.KindEndpoint {
			t.Errorf("%s was released", held)
		}
	}
}

// watched is a store that notes what is listed.
type watched struct {
	kvstore.Store
	mu    sync.Mutex
	lists map[string]int
}

func (w *watched) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	w.mu.Lock()
	w.lists[prefix]++
	w.mu.Unlock()
	return w.Store.List(ctx, prefix)
}

func (w *watched) listed(prefix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lists[prefix]
}

// A claim that the engine did not use is found without reading its pool, and no
// whole table is read once the host has started.
func TestSteadyStateReadsNoTables(t *testing.T) {
	store := &watched{Store: storetest.New(t), lists: map[string]int{}}
	h1 := hosttest.Start(t, store, 1, hosttest.Collecting)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	pool := foo.Subnets[0].Pool
	hosttest.Eventually(t, "the pool is read after the start", func() bool { return store.listed(records.PoolAddresses(pool)) > 0 })
	store.mu.Lock()
	clear(store.lists)
	store.mu.Unlock()
	for n := range 5 {
		addr := netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + n)})
		key := records.AddressKey(pool, addr)
		h1.Commit(t, kvstore.Put(key, records.Address{Kind: records.KindEndpoint, Host: "h1"}))
		h1.Collector.Claimed(pool, addr)
		hosttest.Eventually(t, "the claim is released", func() bool { return kind(t, store, key) == records.KindFree })
	}
	if looks := store.listed(records.PoolAddresses(pool)); looks > 1 {
		t.Errorf("the pool was read %d times", looks)
	}
	for _, table := range []string{"", records.HostsPrefix, records.AlivePrefix, records.NetworksPrefix, records.EndpointsPrefix,
		records.AddressesPrefix, records.PoolsPrefix, records.AttachmentsPrefix, records.NetworkEndpoints(foo.ID)} {
		if n := store.listed(table); n > 0 {
			t.Errorf("%q was listed %d times", table, n)
		}
	}
}

func TestMain(m *testing.M) { storetest.Main(m) }
