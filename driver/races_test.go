package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// hooked is a store where something happens just before, or just after, the next
// commit.
type hooked struct {
	kvstore.Store
	before atomic.Pointer[func()]
	after  atomic.Pointer[error]
}

func (h *hooked) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	if do := h.before.Swap(nil); do != nil {
		(*do)()
	}
	revision, err := h.Store.Commit(ctx, txn)
	if lost := h.after.Swap(nil); lost != nil && err == nil {
		return 0, *lost
	}
	return revision, err
}

// meanwhile writes a record as somebody else does, before the next commit.
func meanwhile[T any](t *testing.T, h *hooked, key string, edit func(*T) []kvstore.Op) {
	do := func() {
		item, err := h.Get(t.Context(), key)
		if err != nil {
			t.Error(err)
			return
		}
		value, err := kvstore.Decode[T](item)
		if err != nil {
			t.Error(err)
		}
		then := edit(&value)
		if _, err := h.Store.Commit(t.Context(), kvstore.Txn{Then: append(then, kvstore.Put(key, value))}); err != nil {
			t.Error(err)
		}
	}
	h.before.Store(&do)
}

func TestEndpointIsDeletedWhileItIsNamed(t *testing.T) {
	store := &hooked{Store: storetest.New(t)}
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	meanwhile(t, store, records.EndpointKey(networkID(dockerID1), "e1"), func(e *fabric.Endpoint) []kvstore.Op { e.Name = "busybox"; return nil })
	must[empty](h1, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID1, EndpointID: "e1"})
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24"))
}

func TestNetworkIsRemovedWhileItIsNamed(t *testing.T) {
	store := &hooked{Store: storetest.New(t)}
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	id := networkID(dockerID1)
	meanwhile(t, store, records.NetworkKey(id), func(n *fabric.Network) []kvstore.Op {
		n.Name = "foo"
		return []kvstore.Op{kvstore.Put(records.NameKey("foo"), id)}
	})
	must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
	for key := range contents(t, store) {
		if !strings.HasPrefix(key, "hosts/") && !strings.HasPrefix(key, "alive/") {
			t.Errorf("left in the store: %s", key)
		}
	}
}

// The answer to CreateEndpoint's commit is lost, and Docker sends no delete.
func TestEndpointOfALostAnswerIsFound(t *testing.T) {
	store := &hooked{Store: storetest.New(t)}
	h1 := startWith(t, store, 1, func(*Config) {}, hosttest.Collecting)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	lost := fmt.Errorf("no answer in time: %w", kvstore.ErrUnavailable)
	store.after.Store(&lost)
	if _, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24")); err == nil {
		t.Fatal("the lost answer is an answer")
	}
	eventually(t, "the endpoint is erased", func() bool {
		_, there := contents(t, store)[records.EndpointKey(networkID(dockerID1), "e1")]
		return !there
	})
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24"))
}

// An engine that was killed sends no deletes for a network of its own allocator, and
// gives the addresses of its dead containers out again at once.
func TestAddressOfADeadEndpointIsTakenAtOnce(t *testing.T) {
	store := storetest.New(t)
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	enter(h1, dockerID1, "e1", "192.168.1.2/24")
	h1.Plane.Set(func(l *hosttest.State) { l.Living["e1"] = true })
	if _, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24")); err == nil {
		t.Fatal("a living container's address was given out")
	}
	h1.Plane.Set(func(l *hosttest.State) { l.Living["e1"] = false })
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24"))
	if _, there := contents(t, store)[records.EndpointKey(networkID(dockerID1), "e1")]; there {
		t.Error("the dead endpoint is left")
	}
}

// A runc that a killed engine left behind keeps a dead container's link. That the
// engine gives the address out again, and does not list the endpoint, is what tells.
func TestAddressOfAnEndpointThatTheEngineForgotIsTaken(t *testing.T) {
	store, asked := storetest.New(t), &engine{lists: map[string]bool{"e1": true}}
	h1 := startWith(t, store, 1, func(c *Config) { c.Engine = asked })
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	enter(h1, dockerID1, "e1", "192.168.1.2/24")
	if _, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24")); err == nil {
		t.Fatal("a living container's address was given out")
	}
	asked.lists["e1"] = false
	enter(h1, dockerID1, "e2", "192.168.1.2/24")
	if _, there := contents(t, store)[records.EndpointKey(networkID(dockerID1), "e1")]; there {
		t.Error("the dead endpoint is left")
	}
	asked.err = errors.New("the engine is busy")
	if _, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e3", "192.168.1.2/24")); err == nil {
		t.Fatal("an address was given out without the engine's word")
	}
}

// engine is what the engine answers.
type engine struct {
	lists      map[string]bool
	configured bool
	removing   []string // the cluster's networks
	naming     error
	err        error
}

func (e *engine) HasEndpoint(_ context.Context, _, endpoint string) (bool, error) {
	return e.lists[endpoint], e.err
}

func (e *engine) Configured(context.Context, string, string) (bool, error) {
	return e.configured, e.err
}

func (e *engine) Name(context.Context, string, string) error { return e.naming }

func (e *engine) Removing(_, network string) { e.removing = append(e.removing, network) }

func (e *engine) PutBack(context.Context) error { return e.err }

// Three hosts bring up one network in the same moment, as a deployment tool does.
func TestOneNetworkOnThreeHostsAtOnce(t *testing.T) {
	t.Run("joined by name", func(t *testing.T) { onThreeHosts(t, 1, "causeway.network=foo", "vni=77") })
	t.Run("each its own", func(t *testing.T) { onThreeHosts(t, 3) }) // their mirrors keep one
}

func onThreeHosts(t *testing.T, networks int, options ...string) {
	for round := range 20 {
		store := storetest.New(t)
		var hosts []*host
		for n := range 3 {
			hosts = append(hosts, startHost(t, store, n+1))
		}
		refused := make(chan error, len(hosts))
		for n, id := range []string{dockerID1, dockerID2, dockerID3} {
			go func() {
				_, err := call[empty](hosts[n], "CreateNetwork", creation(id, "172.19.0.0/16", options...))
				refused <- err
			}()
		}
		for range hosts {
			if err := <-refused; err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		made, err := store.List(t.Context(), records.NetworksPrefix)
		if err != nil || len(made.Items) != networks {
			t.Errorf("round %d: there are %d networks: %v", round, len(made.Items), err)
		}
		for _, h := range hosts {
			h.Stop()
		}
	}
}

// A new host attaches to a network in the moment in which its last host leaves it.
func TestNetworkStaysForAHostThatComesMeanwhile(t *testing.T) {
	store := &hooked{Store: storetest.New(t)}
	h1 := startHost(t, store, 1)
	eventually(t, "h1 is in the cluster", func() bool { _, err := store.Get(t.Context(), records.HostKey("h1")); return err == nil })
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "causeway.network=foo"))
	var h2 *host
	come := func() {
		h2 = startHost(t, store, 2)
		must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=foo"))
	}
	store.before.Store(&come)
	must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
	enter(h2, dockerID2, "e2", "192.168.1.2/24")
}

// What one host's user forces is forced on that host alone.
func TestForceCountsWhereItWasGiven(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := startHost(t, store, 1), startHost(t, store, 2)
	options := []string{"mode=underlay", "parent=eth0", "force=true"}
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", options...))
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", append(options, "causeway.network=id:"+networkID(dockerID1))...))
	for _, test := range []struct {
		host   *host
		forced bool
	}{{h1, true}, {h2, false}} {
		eventually(t, test.host.Name+" applies the network", func() bool {
			s, ok := test.host.Physical.Segment(networkID(dockerID1))
			return ok && s.Network.Force == test.forced
		})
		test.host.Physical.Set(func(l *hosttest.State) {
			if l.Checked.Force != test.forced {
				t.Errorf("%s checks it with force=%v", test.host.Name, l.Checked.Force)
			}
		})
	}
}

// Two hosts pick one address of the physical network at once: one of them gets it.
func TestProbeComesAfterTheClaim(t *testing.T) {
	store := storetest.New(t)
	var hosts []*host
	var probing atomic.Int32
	both, refused := make(chan struct{}), make(chan struct{})
	for n := range 2 {
		hosts = append(hosts, startWith(t, store, n+1, func(c *Config) {
			c.Probe = func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error) {
				if probing.Add(1) == 2 {
					close(both)
				}
				select {
				case <-both: // each sees the other's probe
					return fabric.MAC{2}, true, nil
				case <-refused:
					return fabric.MAC{}, false, nil
				}
			}
		}))
	}
	options := []string{"mode=underlay", "parent=eth0", "causeway.network=phys"}
	for n, id := range []string{dockerID1, dockerID2} {
		must[empty](hosts[n], "CreateNetwork", creation(id, "192.168.1.0/24", options...))
	}
	answers := make(chan error, 2)
	for n, id := range []string{dockerID1, dockerID2} {
		go func() {
			_, err := call[network.CreateEndpointResponse](hosts[n], "CreateEndpoint", endpointOn(id, fmt.Sprint("e", n), "192.168.1.9/24"))
			answers <- err
		}()
	}
	if err := <-answers; err == nil || !strings.Contains(err.Error(), "in use by host") {
		t.Errorf("the second is answered %v", err)
	}
	close(refused)
	if err := <-answers; err != nil {
		t.Errorf("the first is answered %v", err)
	}
}

// A machine on the wire has the address: nothing of the claim is left.
func TestProbedAddressIsReleased(t *testing.T) {
	store := storetest.New(t)
	h1 := startWith(t, store, 1, func(c *Config) {
		c.Probe = func(_ context.Context, _ fabric.Network, addr netip.Addr) (fabric.MAC, bool, error) {
			return fabric.MAC{2}, addr == netip.MustParseAddr("192.168.1.9"), nil
		}
	})
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "mode=underlay", "parent=eth0"))
	_, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.9/24"))
	if err == nil || !strings.Contains(err.Error(), "in use by the machine 02:00:00:00:00:00 on the wire") {
		t.Errorf("got %v", err)
	}
	if _, there := contents(t, store)[records.EndpointKey(networkID(dockerID1), "e1")]; there {
		t.Error("the endpoint is left")
	}
	enter(h1, dockerID1, "e2", "192.168.1.8/24")
}

// The engine died after CreateNetwork: the network never gets a name.
func TestNetworkOfADeadEngineIsDeleted(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := startNode(t, store, 1, network.LocalScope, true), startNode(t, store, 2, network.LocalScope, true)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	if err := (records.Records{Store: store, Host: "h1"}).ForgetLost(t.Context(), dockerID1); err != nil {
		t.Fatal(err)
	}
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24"))
}
