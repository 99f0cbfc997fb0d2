package membership_test

import (
	"context"
	"errors"
	"net/netip"
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

// recorded gives the record of a host, the zero Host when there is none.
func recorded(t *testing.T, store kvstore.Store, name string) fabric.Host {
	t.Helper()
	host, _, err := kvstore.Read[fabric.Host](t.Context(), store, records.HostKey(name))
	if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
		t.Fatal(err)
	}
	return host
}

func ready(t *testing.T, h *hosttest.Host) {
	t.Helper()
	if err := h.Member.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, h.Name+" is alive", func() bool { return h.Has(t, records.AliveKey(h.Name)) })
}

// A host that was cut off for long enough to be released runs on: the others
// must find its VTEP again.
func TestReleasedHostAppearsAgain(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := hosttest.Start(t, store, 1), hosttest.Start(t, store, 2)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	ready(t, h2)
	h1.Commit(t, kvstore.Delete(records.HostKey("h2")), kvstore.DeletePrefix(records.HostAttachments("h2")))
	hosttest.Eventually(t, "h2 is in the records again", func() bool { return recorded(t, store, "h2").VTEP.IsValid() })
	h2.Attach(t, foo)
	h2.Enter(t, foo, "e2", "192.168.1.3")
	hosttest.Eventually(t, "h1 has the peer", func() bool {
		s, _ := h1.Plane.Segment(foo.ID)
		return len(s.Remote) == 1 && s.Remote[0].VTEP.String() == "10.99.0.2"
	})
}

// refusedHost checks that a host is refused, touches nothing, and says why.
func refusedHost(t *testing.T, h *hosttest.Host, want string) {
	t.Helper()
	hosttest.Eventually(t, h.Name+" is refused", func() bool { return h.Fault(health.Membership, "") == want })
	if err := h.Member.Refusal(); err == nil || err.Error() != want {
		t.Errorf("%s: the refusal is %v", h.Name, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*hosttest.Grace)
	defer cancel()
	if err := h.Member.Ready(short); err == nil {
		t.Errorf("%s may act", h.Name)
	}
}

// accepted checks that a host that was refused may act now.
func accepted(t *testing.T, h *hosttest.Host) {
	t.Helper()
	if err := h.Member.Ready(t.Context()); err != nil || h.Member.Refusal() != nil || h.Fault(health.Membership, "") != "" {
		t.Errorf("%v, %v, %q", err, h.Member.Refusal(), h.Fault(health.Membership, ""))
	}
}

// Two machines were cloned and have one name.
func TestTwoHostsOfOneName(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	ready(t, h1)

	twin := hosttest.Start(t, store, 2, func(o *hosttest.Options) { o.Host.Name = "h1" })
	refusedHost(t, twin, "host name h1 is in use by the host with VTEP 10.99.0.1: give --host-name")
	if !h1.Has(t, records.EndpointKey(foo.ID, "e1")) {
		t.Error("the endpoint of the first is gone")
	}
	if got := recorded(t, store, "h1").VTEP.String(); got != "10.99.0.1" {
		t.Errorf("h1 is at %s", got)
	}
	h1.Stop()
	hosttest.Eventually(t, "the name is free", func() bool { return recorded(t, store, "h1").VTEP.String() == "10.99.0.2" })
	accepted(t, twin)
}

func TestOneVTEPOfTwoHosts(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	ready(t, h1)
	twin := hosttest.Start(t, store, 1, func(o *hosttest.Options) { o.Host.Name = "h2" })
	refusedHost(t, twin, "VTEP 10.99.0.1 is in use by host h1: give --vtep")
	if recorded(t, store, "h2").VTEP.IsValid() {
		t.Error("the refused host is in the records")
	}
	h1.Stop()
	accepted(t, twin)
}

// Of two hosts with one VTEP that start in one moment neither is refused.
func TestOneVTEPIsReported(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	ready(t, h1)
	h1.Commit(t, kvstore.Put(records.AliveKey("h2"), records.Alive{}))
	twin := h1.Host
	twin.Name = "h2"
	h1.Commit(t, kvstore.Put(records.HostKey("h2"), twin))
	hosttest.Eventually(t, "it is reported", func() bool {
		return strings.Contains(h1.Fault(health.Membership, "vtep of h2"), "host h2 has this host's VTEP 10.99.0.1")
	})
	twin.VTEP = twin.VTEP.Next()
	h1.Commit(t, kvstore.Put(records.HostKey("h2"), twin))
	hosttest.Eventually(t, "it has recovered", func() bool { return h1.Fault(health.Membership, "vtep of h2") == "" })
}

func TestVTEPOfTheOtherFamily(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	ready(t, h1)
	h2 := hosttest.Start(t, store, 2, func(o *hosttest.Options) { o.Host.VTEP = netip.MustParseAddr("fd00::2") })
	refusedHost(t, h2, "VTEP fd00::2 is an IPv6 address and that of host h1 (10.99.0.1) is not: give all hosts a --vtep of one family")
	h1.Stop() // all hosts move to the other family
	accepted(t, h2)
}

// A host that was killed starts again before its lease has run out.
func TestQuickRestart(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	ready(t, h1)
	h1.Stop()
	h1.Commit(t, kvstore.Put(records.AliveKey("h1"), records.Alive{}))
	h1 = hosttest.Start(t, store, 1, func(o *hosttest.Options) { o.Host.BootID = "another" })
	if err := h1.Member.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := recorded(t, store, "h1").BootID; got != "another" {
		t.Errorf("boot ID %s", got)
	}
}

// The name of a host that is cut off is taken by another: it may do nothing more.
func TestNameTakenMeanwhile(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1, hosttest.Collecting)
	ready(t, h1)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	other := h1.Host
	other.VTEP = other.VTEP.Next()
	theirs := fabric.Endpoint{ID: "e9", Network: foo.ID, Host: "h1"}
	h1.Commit(t, kvstore.Put(records.HostKey("h1"), other))
	hosttest.Eventually(t, "h1 is refused", func() bool { return h1.Member.Refusal() != nil })
	h1.Commit(t, kvstore.Put(records.EndpointKey(theirs.Network, theirs.ID), theirs))
	time.Sleep(5 * hosttest.Grace)
	if !h1.Has(t, records.EndpointKey(theirs.Network, theirs.ID)) {
		t.Error("the other's endpoint is gone")
	}
}

// readOnly is a store whose user may write nothing.
type readOnly struct{ kvstore.Store }

func (readOnly) Commit(context.Context, kvstore.Txn) (int64, error) {
	return 0, errors.New("etcdserver: permission denied")
}

func TestReadOnlyRoleIsReported(t *testing.T) {
	h1 := hosttest.Start(t, readOnly{storetest.New(t)}, 1)
	hosttest.Eventually(t, "it is reported", func() bool {
		return strings.Contains(h1.Fault(health.Membership, ""), "this host's record hosts/h1 cannot be written") &&
			strings.Contains(h1.Fault(health.Membership, ""), "permission denied")
	})
}

// A host's keys of encrypted networks change while it runs: its record follows, also where
// it is written again.
func TestRecordFollowsTheKeys(t *testing.T) {
	store := storetest.New(t)
	h1 := hosttest.Start(t, store, 1)
	ready(t, h1)
	ends := fabric.Ends{WireGuard: fabric.WireGuard{Key: "two", Port: 2}, Last: fabric.WireGuard{Key: "one", Port: 1}}
	if err := h1.Member.Encrypt(t.Context(), ends); err != nil {
		t.Fatal(err)
	}
	if got := recorded(t, store, "h1").Ends; got != ends {
		t.Errorf("the record has %v", got)
	}
	h1.Commit(t, kvstore.Delete(records.HostKey("h1")))
	hosttest.Eventually(t, "the record is written again", func() bool { return recorded(t, store, "h1").Ends == ends })
}
