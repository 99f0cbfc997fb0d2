package membership_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
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
	store := storetest.New(t)
	h2 := hosttest.Start(t, store, 2)
	ready(t, h2)
	foo := h2.CreateNetwork(t, "foo", "192.168.1.0/24")
	h2.PutEndpoint(t, foo, "e1", "192.168.1.2")
	h2.PutEndpoint(t, foo, "e2", "192.168.1.3")
	h2.Stop()
	back := &interrupted{Store: store, n: 2, then: func() { h2.Commit(t, kvstore.Put(records.AliveKey("h2"), records.Alive{})) }}
	released, err := records.ReleaseHost(t.Context(), back, "h2")
	if released != 1 || err == nil || !strings.Contains(err.Error(), "host h2 came back meanwhile, and 1 of its endpoints were released") {
		t.Errorf("got %d, %v", released, err)
	}
	left, err := store.List(t.Context(), records.NetworkEndpoints(foo.ID))
	if err != nil || len(left.Items) != 1 {
		t.Errorf("left are %v, %v", left.Items, err)
	}
	if !h2.Has(t, records.HostKey("h2")) {
		t.Error("the host's record is gone")
	}
}

func TestReleaseFreesWhatAHostHad(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := hosttest.Start(t, store, 1), hosttest.Start(t, store, 2)
	ready(t, h2)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.PutEndpoint(t, foo, "e1", "192.168.1.2")
	h2.Attach(t, foo)
	h2.PutEndpoint(t, foo, "e2", "192.168.1.3")
	if _, err := records.ReleaseHost(t.Context(), store, "h2"); err == nil || err.Error() != "host h2 is alive: stop causeway there first, or cut it off with --force" {
		t.Errorf("got %v", err)
	}
	if _, err := records.ReleaseHost(t.Context(), store, "h9"); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	h2.Stop()
	if released, err := records.ReleaseHost(t.Context(), store, "h2"); err != nil || released != 1 {
		t.Errorf("released %d endpoints: %v", released, err)
	}
	all, err := store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for key := range all.Items {
		if strings.Contains(key, "h2") || strings.HasSuffix(key, "e2") {
			t.Errorf("%s is left", key)
		}
	}
	h1.PutEndpoint(t, foo, "e3", "192.168.1.3")
}

func TestHostExpiry(t *testing.T) {
	const expiry = 300 * time.Millisecond
	store := storetest.New(t)
	patient := hosttest.Start(t, store, 1)
	h2, h3 := hosttest.Start(t, store, 2), hosttest.Start(t, store, 3)
	for _, h := range []*hosttest.Host{patient, h2, h3} {
		ready(t, h)
	}
	foo := h2.CreateNetwork(t, "foo", "192.168.1.0/24")
	h2.PutEndpoint(t, foo, "e1", "192.168.1.2")
	h2.Stop()
	time.Sleep(2 * expiry)
	if !recorded(t, store, "h2").VTEP.IsValid() {
		t.Fatal("h2 is released though no host has an expiry")
	}
	begin := time.Now()
	h4 := hosttest.Start(t, store, 4, func(o *hosttest.Options) { o.Expiry = expiry })
	hosttest.Eventually(t, "h2 is released", func() bool { return !recorded(t, store, "h2").VTEP.IsValid() })
	if took := time.Since(begin); took < expiry {
		t.Errorf("h2 was released after %v: it must be seen gone for %v", took, expiry)
	}
	if h4.Has(t, records.EndpointKey(foo.ID, "e1")) {
		t.Error("its endpoint is left")
	}
	if !recorded(t, store, "h3").VTEP.IsValid() || !recorded(t, store, "h4").VTEP.IsValid() {
		t.Error("a host that lives was released")
	}
	h4.Stop()
	if n := strings.Count(h4.Log.String(), "with 1 endpoints"); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
}
