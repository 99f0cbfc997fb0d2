package driver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	addresses "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// engine28 puts containers on one network and takes them off again, by the calls of
// engine 28 in their order.
type engine28 struct {
	*host
	store *kvstore.Etcd
	pool  string // of causeway's IPAM; empty: Docker's own allocator has the addresses
	n     int
}

// newEngine creates the network; a container that stays has the host follow it.
func newEngine(t testing.TB, store *kvstore.Etcd, dockerIPAM, others bool) *engine28 {
	e := &engine28{host: startHost(t, store, 1), store: store}
	request := creation(dockerID1, "192.168.0.0/16")
	if !dockerIPAM {
		pool := must[addresses.RequestPoolResponse](e.host, "IpamDriver.RequestPool", addresses.RequestPoolRequest{AddressSpace: "causeway.local", Pool: "192.168.0.0/16"})
		e.pool, request.IPv4Data[0].AddressSpace = pool.PoolID, "causeway.local"
	}
	must[empty](e.host, "CreateNetwork", request)
	if others {
		must[network.CreateEndpointResponse](e.host, "CreateEndpoint", endpointOn(dockerID1, "stays", e.address(t)))
		must[network.JoinResponse](e.host, "Join", &network.JoinRequest{NetworkID: dockerID1, EndpointID: "stays"})
	}
	return e
}

func (e *engine28) address(t testing.TB) string {
	if e.pool == "" {
		return fmt.Sprintf("192.168.1.%d/16", 1+min(e.n, 1)) // one for what stays, one for the others
	}
	return must[addresses.RequestAddressResponse](e.host, "IpamDriver.RequestAddress", addresses.RequestAddressRequest{PoolID: e.pool}).Address
}

// live is a container's life. It gives how long CreateEndpoint and Join took, and how
// many requests of etcd those were, and how many its end.
func (e *engine28) live(t testing.TB) (took time.Duration, attach, detach int64) {
	e.n++
	id := fmt.Sprint("e", e.n)
	address := e.address(t)
	began, before := time.Now(), e.store.Requests()
	must[network.CreateEndpointResponse](e.host, "CreateEndpoint", endpointOn(dockerID1, id, address))
	must[network.JoinResponse](e.host, "Join", &network.JoinRequest{NetworkID: dockerID1, EndpointID: id})
	took, attach = time.Since(began), e.store.Requests()-before
	before = e.store.Requests()
	must[empty](e.host, "Leave", &network.LeaveRequest{NetworkID: dockerID1, EndpointID: id})
	must[empty](e.host, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID1, EndpointID: id})
	if e.pool != "" {
		bare, _, _ := strings.Cut(address, "/")
		must[empty](e.host, "IpamDriver.ReleaseAddress", addresses.ReleaseAddressRequest{PoolID: e.pool, Address: bare})
	}
	return took, attach, e.store.Requests() - before
}

// A container comes by one transaction, and one list where it is the network's first
// here, and it goes by one transaction.
func TestRequestsOfAContainer(t *testing.T) {
	for name, test := range map[string]struct {
		dockerIPAM, others bool
		attach             int64
	}{
		"causeway's IPAM":            {false, true, 1},
		"Docker's IPAM":              {true, true, 1},
		"the first of its network":   {false, false, 2},
		"the first, by Docker's own": {true, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, storetest.New(t), test.dockerIPAM, test.others)
			var attaches, detaches []int64
			for range 5 { // what goes on beside them makes some requests too
				_, attach, detach := e.live(t)
				attaches, detaches = append(attaches, attach), append(detaches, detach)
				id := fmt.Sprint("e", e.n)
				hosttest.Eventually(t, "its link is gone", func() bool {
					s, _ := e.Plane.Segment(networkID(dockerID1))
					return !slices.ContainsFunc(s.Local, func(e fabric.Endpoint) bool { return e.ID == id })
				})
			}
			if got := slices.Min(attaches); got != test.attach {
				t.Errorf("CreateEndpoint and Join made %v requests, want %d", attaches, test.attach)
			}
			if got := slices.Min(detaches); got != 1 {
				t.Errorf("DeleteEndpoint and ReleaseAddress made %v requests, want 1", detaches)
			}
		})
	}
}

// BenchmarkAttach is what CreateEndpoint and Join take without a kernel, on stores that
// write to the disk.
func BenchmarkAttach(b *testing.B) {
	for _, kind := range []struct {
		name string
		open func(testing.TB) *kvstore.Etcd
	}{
		{"one member in process", func(t testing.TB) *kvstore.Etcd {
			etcd, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = etcd.Close() })
			return etcd.Etcd
		}},
		{"three members over TLS", func(t testing.TB) *kvstore.Etcd { return storetest.NewClosed(t, 3) }},
	} {
		for _, others := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/others=%v", kind.name, others), func(b *testing.B) {
				e := newEngine(b, kind.open(b), false, others)
				var times []time.Duration
				var attaches, detaches int64
				for b.Loop() {
					took, attach, detach := e.live(b)
					times, attaches, detaches = append(times, took), attaches+attach, detaches+detach
				}
				slices.Sort(times)
				at := func(share float64) float64 { return times[int(share*float64(len(times)-1))].Seconds() * 1000 }
				b.ReportMetric(at(0.5), "p50-ms")
				b.ReportMetric(at(0.99), "p99-ms")
				b.ReportMetric(float64(attaches)/float64(len(times)), "requests/attach")
				b.ReportMetric(float64(detaches)/float64(len(times)), "requests/detach")
			})
		}
	}
}

// An address that was quarantined with its endpoint belongs to the next container when
// the engine says that it releases it.
func TestLateReleaseLeavesTheNextClaim(t *testing.T) {
	e := newEngine(t, storetest.New(t), false, true)
	address := e.address(t)
	bare, _, _ := strings.Cut(address, "/")
	must[network.CreateEndpointResponse](e.host, "CreateEndpoint", endpointOn(dockerID1, "e1", address))
	must[empty](e.host, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID1, EndpointID: "e1"})
	release := addresses.ReleaseAddressRequest{PoolID: e.pool, Address: bare}
	request := addresses.RequestAddressRequest{PoolID: e.pool, Address: bare}
	must[addresses.RequestAddressResponse](e.host, "IpamDriver.RequestAddress", request)
	must[empty](e.host, "IpamDriver.ReleaseAddress", release)
	key := records.AddressKey(e.pool, netip.MustParseAddr(bare))
	claim, _, err := kvstore.Read[records.Address](t.Context(), e.store, key)
	if err != nil || claim.Kind != records.KindEndpoint {
		t.Errorf("the next container's claim is %+v, %v", claim, err)
	}
	must[empty](e.host, "IpamDriver.ReleaseAddress", release) // its own
	if claim, _, err = kvstore.Read[records.Address](t.Context(), e.store, key); err != nil || claim.Kind != records.KindFree {
		t.Errorf("after its own release it is %+v, %v", claim, err)
	}
}
