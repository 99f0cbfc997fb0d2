package view_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// A record that changes in what is fixed at creation, or is deleted, while
// containers run on the network takes nothing from them.
func TestRunningContainersKeepTheirNetwork(t *testing.T) {
	for name, change := range map[string]func(fabric.Network) kvstore.Op{
		"deleted": func(n fabric.Network) kvstore.Op { return kvstore.Delete(records.NetworkKey(n.ID)) },
		"mode": func(n fabric.Network) kvstore.Op {
			n.Mode, n.Parent = fabric.ModeUnderlay, "eth0"
			return kvstore.Put(records.NetworkKey(n.ID), n)
		},
		"VNI": func(n fabric.Network) kvstore.Op {
			n.VNI++
			return kvstore.Put(records.NetworkKey(n.ID), n)
		},
		"subnets": func(n fabric.Network) kvstore.Op {
			n.Subnets = nil
			return kvstore.Put(records.NetworkKey(n.ID), n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h1 := hosttest.Start(t, storetest.New(t), 1)
			foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
			h1.Enter(t, foo, "e1", "192.168.1.2")
			h1.Commit(t, change(foo))
			hosttest.Eventually(t, "it is reported", func() bool {
				return strings.Contains(h1.Fault(health.Records, records.NetworkKey(foo.ID)), name)
			})
			h1.Loop.Kick()
			hosttest.Eventually(t, "it is pruned", func() (ok bool) {
				h1.Plane.Set(func(s *hosttest.State) { ok = s.Prunes > 1 })
				return ok
			})
			if s, ok := h1.Plane.Segment(foo.ID); !ok || s.Network.VNI != foo.VNI || len(s.Network.Subnets) != 1 || len(s.Local) != 1 {
				t.Errorf("the segment is %+v, there %v", s, ok)
			}
			h1.Commit(t, kvstore.Put(records.NetworkKey(foo.ID), foo))
			hosttest.Eventually(t, "it has recovered", func() bool { return h1.Fault(health.Records, records.NetworkKey(foo.ID)) == "" })

			h1.Commit(t, change(foo))
			if _, err := h1.Records.DeleteEndpoint(t.Context(), foo, "e1", false); err != nil {
				t.Fatal(err)
			}
			hosttest.Eventually(t, "the network goes with its last container", func() bool { _, ok := h1.Plane.Segment(foo.ID); return !ok })
		})
	}
}

// A restart finds a network's record gone or unreadable: what runs is left alone.
func TestUnreadableNetworkIsNotPruned(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	h1.Stop()
	h1.Commit(t, kvstore.Put(records.NetworkKey(foo.ID), "nonsense"))
	h1 = hosttest.Start(t, store, 1)
	hosttest.Eventually(t, "it is reported", func() bool {
		return strings.Contains(h1.Fault(health.Prune, ""), "the record of network foo is missing or cannot be read")
	})
	h1.Plane.Set(func(s *hosttest.State) {
		if s.Prunes > 0 {
			t.Errorf("it was pruned %d times", s.Prunes)
		}
	})
	h1.Commit(t, kvstore.Put(records.NetworkKey(foo.ID), foo))
	hosttest.Eventually(t, "it has recovered", func() bool { _, ok := h1.Plane.Segment(foo.ID); return ok && h1.Fault(health.Prune, "") == "" })
}

func TestAbsurdHostRecords(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	host := func(n int, mtu int) fabric.Host {
		h := h1.Host
		h.Name, h.MTU = fmt.Sprint("x", n), mtu
		for range n {
			h.VTEP = h.VTEP.Next()
		}
		return h
	}
	for n, mtu := range []int{1, -5, 999_999_999} {
		h := host(n+1, mtu)
		h1.Commit(t, kvstore.Put(records.HostKey(h.Name), h))
	}
	hosttest.Eventually(t, "they are reported", func() bool {
		return strings.Contains(h1.Fault(health.Records, "hosts"), "and is ignored")
	})
	long := host(9, 1500)
	long.Version = strings.Repeat("x", 1<<16)
	h1.Commit(t, kvstore.Put(records.HostKey(long.Name), long))
	h1.Commit(t, kvstore.Put(records.HostKey("x8"), host(8, 1400)))
	hosttest.Eventually(t, "a sane MTU counts", func() bool { s, _ := h1.Plane.Segment(foo.ID); return s.MTU == 1350 })
	for _, name := range []string{"x1", "x2", "x3", "x9"} {
		h1.Commit(t, kvstore.Delete(records.HostKey(name)))
	}
	hosttest.Eventually(t, "it has recovered", func() bool { return h1.Fault(health.Records, "hosts") == "" })
}

func TestBadRecordsAreLoggedOnce(t *testing.T) {
	h1 := hosttest.Start(t, storetest.New(t), 1)
	if err := h1.Member.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 500 {
		h1.Commit(t, kvstore.Put(records.NetworkKey(fmt.Sprint("n", n)), "nonsense"))
	}
	hosttest.Eventually(t, "they are reported", func() bool { return h1.Fault(health.Records, "networks") != "" })
	h1.Stop()
	if n := strings.Count(h1.Log.String(), "networks/n"); n != 1 {
		t.Errorf("500 bad records were logged %d times", n)
	}
}

func TestMain(m *testing.M) { storetest.Main(m) }
