package driver

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// recorded gives the record of a host, the zero Host when there is none.
func recorded(t *testing.T, store kvstore.Store, name string) fabric.Host {
	t.Helper()
	item, err := store.Get(t.Context(), records.HostKey(name))
	if err != nil {
		return fabric.Host{}
	}
	host, err := kvstore.Decode[fabric.Host](item)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// A host that was cut off for long enough to be released runs on: the others
// must find its VTEP again.
func TestReleasedHostAppearsAgain(t *testing.T) {
	store := kvstore.NewMemory()
	h1, h2 := startHost(t, store, 1), startHost(t, store, 2)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "causeway.network=foo"))
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	eventually(t, "h2 is in the records", func() bool { return recorded(t, store, "h2").VTEP.IsValid() })
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Delete(records.HostKey("h2")), kvstore.DeletePrefix(records.HostAttachments("h2")),
	}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "h2 is in the records again", func() bool { return recorded(t, store, "h2").VTEP.IsValid() })
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=foo"))
	must[network.CreateEndpointResponse](h2, "CreateEndpoint", endpointOn(dockerID2, "e2", "192.168.1.3/24"))
	eventually(t, "h1 has the peer", func() bool {
		s, _ := h1.plane.segment(networkID(dockerID1))
		return len(s.Remote) == 1 && s.Remote[0].VTEP.String() == "10.99.0.2"
	})
}

// Two machines were cloned and have one name.
func TestTwins(t *testing.T) {
	store := kvstore.NewMemory()
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "causeway.network=foo"))
	enter(h1, dockerID1, "e1", "192.168.1.2/24")
	eventually(t, "h1 is alive", func() bool { _, err := store.Get(t.Context(), records.AliveKey("h1")); return err == nil })

	twin := startWith(t, store, 2, func(c *Config) { c.Host.Name = "h1" })
	want := "host name h1 is in use by the host with VTEP 10.99.0.1: give --host-name"
	eventually(t, "the twin is refused", func() bool { return slices.Equal(twin.driver.Troubles(), []string{want}) })
	if _, err := call[empty](twin, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=foo")); err == nil || err.Error() != want {
		t.Errorf("the twin's CreateNetwork: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*quick.Grace)
	defer cancel()
	if err := twin.driver.Ready(short); err == nil {
		t.Error("the twin may act")
	}
	if _, err := store.Get(t.Context(), records.EndpointKey(networkID(dockerID1), "e1")); err != nil {
		t.Errorf("the endpoint of the first: %v", err)
	}
	if got := recorded(t, store, "h1").VTEP.String(); got != "10.99.0.1" {
		t.Errorf("h1 is at %s", got)
	}

	h1.stop()
	eventually(t, "the name is free", func() bool { return recorded(t, store, "h1").VTEP.String() == "10.99.0.2" })
	if err := twin.driver.Ready(t.Context()); err != nil || len(twin.driver.Troubles()) > 0 {
		t.Errorf("%v, %v", err, twin.driver.Troubles())
	}
}

// A host that was killed starts again before its lease has run out.
func TestQuickRestart(t *testing.T) {
	store := kvstore.NewMemory()
	h1 := startHost(t, store, 1)
	if err := h1.driver.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	h1.stop()
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.AliveKey("h1"), records.Alive{})}}); err != nil {
		t.Fatal(err)
	}
	h1 = startWith(t, store, 1, func(c *Config) { c.Host.BootID = "another" })
	if err := h1.driver.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := recorded(t, store, "h1").BootID; got != "another" {
		t.Errorf("boot ID %s", got)
	}
}

// The name of a host that is cut off is taken by another: it may do nothing more.
func TestNameTakenMeanwhile(t *testing.T) {
	store := kvstore.NewMemory()
	h1 := startHost(t, store, 1)
	eventually(t, "h1 is alive", func() bool { _, err := store.Get(t.Context(), records.AliveKey("h1")); return err == nil })
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	enter(h1, dockerID1, "e1", "192.168.1.2/24")
	other := h1.driver.Host
	other.VTEP = other.VTEP.Next()
	theirs := fabric.Endpoint{ID: "e9", Network: networkID(dockerID1), Host: "h1"}
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.HostKey("h1"), other)}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "h1 is refused", func() bool { return len(h1.driver.Troubles()) == 1 })
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.EndpointKey(theirs.Network, theirs.ID), theirs)}}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * quick.Grace)
	if _, err := store.Get(t.Context(), records.EndpointKey(theirs.Network, theirs.ID)); err != nil {
		t.Errorf("the other's endpoint: %v", err)
	}
}
