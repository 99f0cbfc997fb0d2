package records

import (
	"context"
	"errors"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
)

// TestAskForKey holds that a host hears which of its keys is to be replaced, and that
// nobody asks where it has been already.
func TestAskForKey(t *testing.T) {
	store := storetest.New(t)
	if err := AskForKey(t.Context(), store, "h1"); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("a host that is not there was asked: %v", err)
	}
	host := fabric.Host{Name: "h1", Ends: fabric.Ends{WireGuard: fabric.WireGuard{Key: "one", Port: 1}}}
	put := func() {
		t.Helper()
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(HostKey("h1"), host)}}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if err := AskForKey(t.Context(), store, "h1"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var heard []string
	_ = FollowKeyAsks(ctx, store, "h1", func(key string) { // it ends when it has heard
		heard = append(heard, key)
		stop()
	})
	if len(heard) != 1 || heard[0] != "one" {
		t.Errorf("the host hears %v", heard)
	}
	host.WireGuard, host.Last = fabric.WireGuard{Key: "two", Port: 2}, host.WireGuard
	put()
	if err := AskForKey(t.Context(), store, "h1"); err == nil {
		t.Error("a host was asked that has just replaced its key")
	}
}
