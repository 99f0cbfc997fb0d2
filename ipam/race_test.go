package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// raced is a store where something happens after each look at a pool.
type raced struct {
	kvstore.Store
	meanwhile func()
}

func (r raced) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	snapshot, err := r.Store.List(ctx, prefix)
	r.meanwhile()
	return snapshot, err
}

func TestTwoHostsWantAGatewayAtOnce(t *testing.T) {
	r := newRig(t, 2, "10.1.0.0/24", false)
	asked := false
	r.hosts[0].claimer.Store = raced{r.store, func() {
		if !asked {
			asked = true
			r.release(t, 1, netip.MustParsePrefix(r.hosts[1].must(t, r.pool, "")).Addr()) // .1 is not fresh any more
			r.hosts[1].must(t, r.pool, "", asGateway)
		}
	}}
	if got, other := r.hosts[0].must(t, r.pool, "", asGateway), r.hosts[1].must(t, r.pool, "", asGateway); got != other {
		t.Errorf("the gateways are %s and %s", got, other)
	}
}

func TestPoolDeletedWhileAnAddressIsClaimed(t *testing.T) {
	r := newRig(t, 2, "fd00::/64", false)
	deleted := false
	r.hosts[0].claimer.Store = raced{r.store, func() {
		if deleted {
			return
		}
		deleted = true
		for _, host := range r.hosts {
			if err := host.leave(t.Context(), r.pool); err != nil {
				t.Error(err)
			}
		}
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := r.hosts[0].ask(ctx, r.pool, ""); !errors.Is(err, records.ErrNoPool) {
		t.Errorf("got %v", err)
	}
}

// TestClaimAfterAHundredConflicts has all that a host sees to be free taken before it asks.
func TestClaimAfterAHundredConflicts(t *testing.T) {
	r := newRig(t, 2, "10.1.0.0/24", false)
	looks := 0
	r.hosts[0].claimer.Store = raced{r.store, func() {
		if looks++; looks == 1 {
			for range 100 {
				r.hosts[1].must(t, r.pool, "")
			}
		}
	}}
	if got := r.hosts[0].must(t, r.pool, ""); got != "10.1.0.101/24" || looks != 2 {
		t.Errorf("got %s after %d looks", got, looks)
	}
}

// Forty containers start at once in a pool of thirty addresses, and again when all
// of these are in quarantine: nobody is refused while an address is free.
func TestFortyContainersAtOnce(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared with Docker ", shared), func(t *testing.T) {
			r := newRigOn(t, storetest.New(t), 4, "10.1.0.0/27", shared)
			for range 2 {
				type answer struct {
					host int
					addr netip.Addr
					err  error
				}
				answers := make(chan answer, 40)
				for n := range 40 {
					go func() {
						addr, err := r.ask(t, n%4)
						answers <- answer{n % 4, addr, err}
					}()
				}
				given := map[netip.Addr]int{}
				for range 40 {
					switch a := <-answers; {
					case a.err == nil:
						given[a.addr] = a.host
					case a.err.Error() != "pool 10.1.0.0/27 is full: all of its 30 addresses are in use":
						t.Error(a.err)
					}
				}
				if len(given) != 30 {
					t.Errorf("%d addresses were given, want 30", len(given))
				}
				for addr, host := range given {
					r.release(t, host, addr)
				}
			}
		})
	}
}

func TestFailedClaimLeavesNoRecord(t *testing.T) {
	const id = "default-10.1.0.0-24"
	store := storetest.New(t)
	i := newIPAM(t, store, "h1")
	pool, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"})
	left := func() int {
		t.Helper()
		snapshot, err := store.List(t.Context(), records.AddressesPrefix)
		if err != nil {
			t.Fatal(err)
		}
		return len(snapshot.Items)
	}
	commit := func(ops ...kvstore.Op) {
		t.Helper()
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
	commit(kvstore.Put(records.PoolKey(id), records.Pool{Space: "default", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Network: "net1"}))
	i.claimer.Probe = func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error) {
		commit(kvstore.Delete(records.PoolKey(id)), kvstore.DeletePrefix(records.PoolAddresses(id)))
		return fabric.MAC{}, false, errors.New("the wire is gone")
	}
	if _, err := i.ask(t.Context(), pool, ""); err == nil || left() != 0 {
		t.Errorf("with no network: %v, and %d records are left", err, left())
	}
	commit(kvstore.Put(records.NetworkKey("net1"), fabric.Network{ID: "net1", Mode: fabric.ModeUnderlay}))
	if _, err := i.ask(t.Context(), pool, ""); err == nil || err.Error() != "the wire is gone" || left() != 0 {
		t.Errorf("with a network that goes meanwhile: %v, and %d records are left", err, left())
	}
}

func TestFailedReleaseIsAnError(t *testing.T) {
	r := newRig(t, 1, "10.1.0.0/24", false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.hosts[0].release(ctx, r.pool, "10.1.0.9"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
