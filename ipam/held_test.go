package ipam

import (
	"context"
	"net/netip"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// refused wants an address that it may not have.
func (i *IPAM) refused(t *testing.T, pool, address, want string, options ...string) {
	t.Helper()
	if given, err := i.ask(t.Context(), pool, address, options...); err == nil || err.Error() != want {
		t.Errorf("host %s got %s, %v\nwant %s", i.Host, given, err, want)
	}
}

// TestHeldInAnothersPool has a driver that is not causeway's: nobody else says
// which container has an address.
func TestHeldInAnothersPool(t *testing.T) {
	const remedy = ": start the container with another --ip; an --aux-address is given on one host, and holds on all"
	r := newRig(t, 2, "10.50.0.0/24", false)
	h0, h1 := r.hosts[0], r.hosts[1]
	h0.must(t, r.pool, "10.50.0.1", asGateway)
	h1.must(t, r.pool, "10.50.0.1", asGateway)
	h0.must(t, r.pool, "10.50.0.9", labelName+"=aa")
	inUse := "address 10.50.0.9 of pool 10.50.0.0/24 is in use by host h0 (container aa)"
	h0.refused(t, r.pool, "10.50.0.9", inUse+remedy)
	h0.refused(t, r.pool, "10.50.0.9", inUse+remedy, labelName+"=bb")
	h1.refused(t, r.pool, "10.50.0.9", inUse+remedy)
	h1.refused(t, r.pool, "10.50.0.9", inUse+": give another --gateway", asGateway)
	h0.refused(t, r.pool, "10.50.0.1", "address 10.50.0.1 of pool 10.50.0.0/24 is in use as the gateway"+remedy)
	r.release(t, 1, netip.MustParseAddr("10.50.0.9")) // not its own
	h1.refused(t, r.pool, "10.50.0.9", inUse+remedy)
	r.release(t, 0, netip.MustParseAddr("10.50.0.9"))
	h1.must(t, r.pool, "10.50.0.9")
}

// lossy is a store that does what it is asked and does not answer.
type lossy struct{ kvstore.Store }

func (l lossy) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	if _, err := l.Store.Commit(ctx, txn); err != nil {
		return 0, err
	}
	return 0, kvstore.ErrUnavailable
}

func TestClaimWhoseAnswerIsLost(t *testing.T) {
	r := newRig(t, 1, "10.50.0.0/24", false)
	h0 := r.hosts[0]
	h0.claimer.Store = lossy{r.store}
	var told []netip.Addr
	h0.claimer.Claimed = func(_ string, addr netip.Addr) { told = append(told, addr) }
	h0.refused(t, r.pool, "10.50.0.9", kvstore.ErrUnavailable.Error())
	if len(told) != 1 || told[0] != netip.MustParseAddr("10.50.0.9") {
		t.Errorf("the collector was told of %v", told)
	}
	h0.claimer.Store = r.store
	h0.must(t, r.pool, "10.50.0.9")
	const want = "address 10.50.0.9 of pool 10.50.0.0/24 is in use by host h0: start the container with another --ip; an --aux-address is given on one host, and holds on all"
	h0.refused(t, r.pool, "10.50.0.9", want)
}

// TestHeldInANetwork has causeway's driver bind what it claims.
func TestHeldInANetwork(t *testing.T) {
	r := newRig(t, 2, "10.1.0.0/24", false)
	h0, h1 := r.hosts[0], r.hosts[1]
	r.put(t, records.PoolKey(r.id), records.Pool{Space: records.DefaultSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24"), Network: "net1"})
	r.put(t, records.NetworkKey("net1"), fabric.Network{ID: "net1", Name: "foo"})
	h0.must(t, r.pool, "10.1.0.9")
	h0.must(t, r.pool, "10.1.0.9") // no CreateEndpoint came
	h1.refused(t, r.pool, "10.1.0.9", "address 10.1.0.9 on network foo is in use by host h0: start the container with another --ip")

	key := records.AddressKey(r.id, netip.MustParseAddr("10.1.0.9"))
	r.put(t, key, records.Address{Kind: records.KindEndpoint, Host: "h0", Endpoint: "e1", Name: "aa"})
	h0.must(t, r.pool, "10.1.0.9") // the endpoint is gone
	r.put(t, records.EndpointKey("net1", "e1"), fabric.Endpoint{ID: "e1"})
	h0.refused(t, r.pool, "10.1.0.9", "address 10.1.0.9 on network foo is in use by host h0 (container aa): start the container with another --ip")
}
