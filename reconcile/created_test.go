package reconcile_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// lagging is a store whose follows of endpoints stand still at times, and then go on
// with a fresh list.
type lagging struct {
	kvstore.Store
	mu     sync.Mutex
	stands bool
	goOn   []func()
	heard  []string // the keys that a follow has now
}

func (l *lagging) Follow(ctx context.Context, prefix string, handle func(kvstore.Snapshot)) error {
	if !strings.HasPrefix(prefix, records.EndpointsPrefix) {
		return l.Store.Follow(ctx, prefix, handle)
	}
	told := map[string]int64{}
	var last kvstore.Snapshot
	tell := func() {
		last.Changed = nil
		for key, item := range last.Items {
			if told[key] != item.Revision {
				last.Changed = append(last.Changed, key)
				told[key] = item.Revision
			}
		}
		for key := range told {
			if _, there := last.Items[key]; !there {
				last.Changed = append(last.Changed, key)
				delete(told, key)
			}
		}
		handle(last)
	}
	l.mu.Lock()
	l.goOn = append(l.goOn, tell)
	l.mu.Unlock()
	return l.Store.Follow(ctx, prefix, func(s kvstore.Snapshot) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard = slices.Sorted(maps.Keys(s.Items))
		if last = s; !l.stands {
			tell()
		}
	})
}

func (l *lagging) stand(still bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stands = still; !still {
		for _, tell := range l.goOn {
			tell()
		}
	}
}

// A Join does not wait for the watch, and an endpoint that went before the watch has
// told of it goes from the segment.
func TestEndpointIsTakenInBeforeTheWatchTells(t *testing.T) {
	store := &lagging{Store: storetest.New(t)}
	h1 := hosttest.Start(t, store, 1)
	foo := h1.CreateNetwork(t, "foo", "192.168.1.0/24")
	h1.Enter(t, foo, "e1", "192.168.1.2")
	store.stand(true)
	h1.Enter(t, foo, "e2", "192.168.1.3")
	h1.Enter(t, foo, "e3", "192.168.1.4")
	if _, err := h1.Records.DeleteEndpoint(t.Context(), foo, "e3", true); err != nil {
		t.Fatal(err)
	}
	local := func() (ids []string) {
		s, _ := h1.Plane.Segment(foo.ID)
		for _, e := range s.Local {
			ids = append(ids, e.ID)
		}
		return ids
	}
	if got := strings.Join(local(), " "); got != "e1 e2 e3" {
		t.Errorf("while the watch stands the network has %s", got)
	}
	hosttest.Eventually(t, "the watch has it all", func() bool {
		store.mu.Lock()
		defer store.mu.Unlock()
		return slices.Equal(store.heard, []string{records.EndpointKey(foo.ID, "e1"), records.EndpointKey(foo.ID, "e2")})
	})
	store.stand(false)
	hosttest.Eventually(t, "what went is gone", func() bool { return strings.Join(local(), " ") == "e1 e2" })
}
