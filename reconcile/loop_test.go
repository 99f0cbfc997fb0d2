package reconcile_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func underlay(n *fabric.Network) { n.Mode, n.Parent = fabric.ModeUnderlay, "eth0" }

// An underlay network is applied without containers too: after a restart it
// must not be taken for empty before its endpoints were read.
func TestRestartAppliesNoEmptyNetwork(t *testing.T) {
	store := storetest.New(t)
	first := hosttest.Start(t, store, 1)
	foo := first.CreateNetwork(t, "foo", "192.168.1.0/24", underlay)
	first.Enter(t, foo, "e1", "192.168.1.2")
	first.Stop()
	for range 20 {
		again := hosttest.Start(t, store, 1)
		again.Physical.Set(func(s *hosttest.State) { s.Living["e1"] = true })
		hosttest.Eventually(t, "the segment is applied again", func() bool { _, ok := again.Physical.Segment(foo.ID); return ok })
		again.Stop()
		if fewest := again.Physical.Fewest[foo.ID]; fewest != 1 {
			t.Fatalf("it was applied with %d endpoints", fewest)
		}
	}
}

// Whether an endpoint lives is read in the kernel: at a start the records are not read yet,
// and the engine waits for the answer.
func TestAliveNeedsNoRecords(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	h1.Plane.Set(func(s *hosttest.State) { s.Living["e1"] = true })
	for id, want := range map[string]bool{"e1": true, "e2": false} {
		alive, err := h1.Loop.Alive(t.Context(), fabric.Network{ID: "unread", Mode: fabric.ModeVXLAN}, id)
		if err != nil || alive != want {
			t.Errorf("%s lives: %v, %v", id, alive, err)
		}
	}
}

func TestFaultIsReportedOnceAndItsEndOnce(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	h1.Plane.Set(func(s *hosttest.State) { s.Fault, s.Living["e1"] = errors.New("the kernel is out of sorts"), true })
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.PutEndpoint(t, foo, "e1", "192.168.1.2")
	if _, err := h1.Loop.Plug(t.Context(), foo.ID, "e1"); err == nil || !strings.Contains(err.Error(), "the kernel is out of sorts") {
		t.Errorf("Plug: %v", err)
	}
	if got := h1.Fault(health.Network, foo.ID); !strings.Contains(got, "network foo cannot be applied, it is retried: the kernel is out of sorts") {
		t.Errorf("the fault is %q", got)
	}
	applies := func() (n int) { h1.Plane.Set(func(s *hosttest.State) { n = s.Applies[foo.ID] }); return n }
	tried := applies()
	hosttest.Eventually(t, "it is tried again and again", func() bool { return applies() > tried+3 })
	h1.Plane.Set(func(s *hosttest.State) { s.Fault = nil })
	hosttest.Eventually(t, "it is applied", func() bool { _, ok := h1.Plane.Segment(foo.ID); return ok })
	hosttest.Eventually(t, "it has recovered", func() bool { return h1.Fault(health.Network, foo.ID) == "" })
	h1.Stop()
	for text, want := range map[string]int{"msg=\"network foo cannot be applied": 1, "recovered: network foo": 1} {
		if got := strings.Count(h1.Log.String(), text); got != want {
			t.Errorf("logged %d times: %s", got, text)
		}
	}
}

func TestPruneThatFailsIsReportedAndRetried(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	h1.Plane.Set(func(s *hosttest.State) { s.Pruning = errors.New("namespace is busy") })
	hosttest.Eventually(t, "it is reported", func() bool {
		return strings.Contains(h1.Fault(health.Prune, "vxlan"), "could not all be deleted, it is retried: namespace is busy")
	})
	h1.Plane.Set(func(s *hosttest.State) { s.Pruning = nil })
	hosttest.Eventually(t, "it has recovered", func() bool { return h1.Fault(health.Prune, "vxlan") == "" })
}

// A burst of changes costs a network one Apply for each time that Coalesce has
// passed, and a Join waits for none of them.
func TestBurstIsCoalesced(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	foo := h1.CreateNetwork(t, "foo", "192.168.0.0/16")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	h2 := h1.Host // it does not run: else it would collect endpoints that have no link
	h2.Name, h2.VTEP = "h2", h2.VTEP.Next()
	h1.Commit(t, kvstore.Put(records.HostKey(h2.Name), h2))
	const burst = 200
	var before int
	h1.Plane.Set(func(s *hosttest.State) { before = s.Applies[foo.ID] })
	for i := range burst {
		e := fabric.Endpoint{ID: "b" + string(rune('A'+i)), Network: foo.ID, Host: "h2"}
		h1.Commit(t, kvstore.Put(records.EndpointKey(foo.ID, e.ID), e))
	}
	hosttest.Eventually(t, "all are applied", func() bool { s, _ := h1.Plane.Segment(foo.ID); return len(s.Remote) == burst })
	var after int
	h1.Plane.Set(func(s *hosttest.State) { after = s.Applies[foo.ID] })
	if after-before > burst/2 {
		t.Errorf("%d changes cost %d applies", burst, after-before)
	}
}

// A host whose record changes concerns the networks that it has endpoints on.
func TestHostChangesConcernItsNetworks(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := hosttest.Start(t, store, 1, atOnce), hosttest.Start(t, store, 2)
	foo, bar := h1.CreateNetwork(t, "foo", "192.168.1.0/24"), h1.CreateNetwork(t, "bar", "192.168.2.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	h1.Enter(t, bar, "e2", "192.168.2.2")
	h2.Attach(t, foo)
	h2.Enter(t, foo, "e3", "192.168.1.3")
	hosttest.Eventually(t, "h1 has the peer", func() bool { s, _ := h1.Plane.Segment(foo.ID); return len(s.Remote) == 1 })
	h2.Stop()
	applies := settled(t, h1)
	moved := h2.Host
	moved.VTEP = moved.VTEP.Next().Next()
	h1.Commit(t, kvstore.Put(records.HostKey("h2"), moved))
	hosttest.Eventually(t, "h1 has the new VTEP", func() bool {
		s, _ := h1.Plane.Segment(foo.ID)
		return len(s.Remote) == 1 && s.Remote[0].VTEP == moved.VTEP
	})
	h1.Plane.Set(func(s *hosttest.State) {
		if more := s.Applies[bar.ID] - applies[bar.ID]; more != 0 {
			t.Errorf("a network without an endpoint of h2 was applied %d times more", more)
		}
	})
}

// What others change in the kernel is repaired, on that network alone.
func TestDriftIsApplied(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1, atOnce)
	foo, bar := h1.CreateNetwork(t, "foo", "192.168.1.0/24"), h1.CreateNetwork(t, "bar", "192.168.2.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	h1.Enter(t, bar, "e2", "192.168.2.2")
	applies := settled(t, h1)
	hosttest.Eventually(t, "the plane is watched", func() bool { return h1.Plane.Drift(foo.ID) })
	hosttest.Eventually(t, "it is applied again", func() (ok bool) {
		h1.Plane.Set(func(s *hosttest.State) { ok = s.Applies[foo.ID] > applies[foo.ID] })
		return ok
	})
	h1.Plane.Set(func(s *hosttest.State) {
		if s.Applies[bar.ID] != applies[bar.ID] {
			t.Error("the other network was applied too")
		}
	})
}

func atOnce(o *hosttest.Options) { o.Timing.Coalesce = time.Nanosecond }

// settled waits until a host that applies atOnce has read and applied all that was
// written before: its networks and attachments come in the order of their writes,
// and so does the underlay network that is written last. It returns how often each
// network was applied.
func settled(t *testing.T, h *hosttest.Host) (applies map[string]int) {
	t.Helper()
	last := h.CreateNetwork(t, "last", "192.168.255.0/24", underlay)
	hosttest.Eventually(t, "all is applied", func() bool { _, ok := h.Physical.Segment(last.ID); return ok })
	h.Plane.Set(func(s *hosttest.State) { applies = maps.Clone(s.Applies) })
	return applies
}

// A Join goes before all networks that are to be read back.
func TestJoinDoesNotWaitForReadBacks(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	var networks []fabric.Network
	for i := range 30 {
		network := h1.CreateNetwork(t, fmt.Sprint("n", i), fmt.Sprintf("192.168.%d.0/24", i))
		h1.Enter(t, network, fmt.Sprint("e", i), fmt.Sprintf("192.168.%d.2", i))
		networks = append(networks, network)
	}
	foo := networks[len(networks)-1]
	gate := make(chan struct{}, 3)
	for range cap(gate) { // what was under way, and the Join's own network
		gate <- struct{}{}
	}
	whole := func() (n int) {
		h1.Plane.Set(func(s *hosttest.State) {
			for id, applies := range s.Applies {
				n += applies - s.Updates[id]
			}
		})
		return n
	}
	h1.PutEndpoint(t, foo, "joins", "192.168.29.3")
	hosttest.Eventually(t, "it is applied", func() bool { s, _ := h1.Plane.Segment(foo.ID); return len(s.Local) == 2 })
	hosttest.Eventually(t, "nothing else comes", func() bool {
		have, err := h1.Loop.Holdings(t.Context())
		return err == nil && len(have.Networks) == len(networks)
	})
	before := whole()
	h1.Plane.Set(func(s *hosttest.State) { s.Block = gate })
	joined, err := h1.Loop.KickAndJoin(t.Context(), foo.ID, "joins")
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the Join is answered", func() bool { return len(joined) > 0 })
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	close(gate)
	hosttest.Eventually(t, "all are read back", func() bool { return whole() >= before+len(networks) })
}
