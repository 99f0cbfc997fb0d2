package driver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// interrupted is a Store that does something before the nth Commit.
type interrupted struct {
	kvstore.Store
	n    int
	then func()
}

func (i *interrupted) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	if i.n--; i.n == 0 {
		i.then()
	}
	return i.Store.Commit(ctx, txn)
}

func TestReleaseStopsAtAHostThatComesBack(t *testing.T) {
	store := kvstore.NewMemory()
	h2 := startHost(t, store, 2)
	must[empty](h2, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	for id, address := range map[string]string{"e1": "192.168.1.2/24", "e2": "192.168.1.3/24"} {
		must[network.CreateEndpointResponse](h2, "CreateEndpoint", endpointOn(dockerID1, id, address))
	}
	h2.stop()
	back := &interrupted{Store: store, n: 2, then: func() {
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.AliveKey("h2"), records.Alive{})}}); err != nil {
			t.Error(err)
		}
	}}
	erased, err := Release(t.Context(), back, "h2")
	if erased != 1 || err == nil || !strings.Contains(err.Error(), "host h2 came back meanwhile, and 1 of its endpoints were released") {
		t.Errorf("got %d, %v", erased, err)
	}
	left, err := store.List(t.Context(), records.NetworkEndpoints(networkID(dockerID1)))
	if err != nil || len(left.Items) != 1 {
		t.Errorf("left are %v, %v", left.Items, err)
	}
	if _, err := store.Get(t.Context(), records.HostKey("h2")); err != nil {
		t.Error(err)
	}
}

func TestHostExpiry(t *testing.T) {
	const expiry = 300 * time.Millisecond
	store := kvstore.NewMemory()
	patient := startHost(t, store, 1)
	h2, h3 := startHost(t, store, 2), startHost(t, store, 3)
	must[empty](h2, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	must[network.CreateEndpointResponse](h2, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	for _, h := range []*host{patient, h2, h3} {
		eventually(t, h.name+" is alive", func() bool { _, err := store.Get(t.Context(), records.AliveKey(h.name)); return err == nil })
	}
	h2.stop()
	time.Sleep(2 * expiry)
	if !recorded(t, store, "h2").VTEP.IsValid() {
		t.Fatal("h2 is released though no host has an expiry")
	}
	begin := time.Now()
	h4 := startWith(t, store, 4, func(c *Config) { c.HostExpiry = expiry })
	eventually(t, "h2 is released", func() bool { return !recorded(t, store, "h2").VTEP.IsValid() })
	if took := time.Since(begin); took < expiry {
		t.Errorf("h2 was released after %v: it must be seen gone for %v", took, expiry)
	}
	if _, err := store.Get(t.Context(), records.EndpointKey(networkID(dockerID1), "e1")); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("its endpoint: %v", err)
	}
	if !recorded(t, store, "h3").VTEP.IsValid() || !recorded(t, store, "h4").VTEP.IsValid() {
		t.Error("a host that lives was released")
	}
	h4.stop()
	if n := strings.Count(h4.log.String(), "with 1 endpoints"); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
}
