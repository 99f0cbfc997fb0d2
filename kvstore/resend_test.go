package kvstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestResend has a store lose the first request, or its answer for a while.
func TestResend(t *testing.T) {
	store := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Volatile: true})
	for name, test := range map[string]struct {
		taken bool // by another
		first func(ctx context.Context, do func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error)
		done  bool
		sent  int
	}{
		"answered at once": {done: true, sent: 1, first: func(_ context.Context, do func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
			return do()
		}},
		"a guard fails": {taken: true, sent: 1, first: func(_ context.Context, do func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
			return do()
		}},
		"the first is lost": {done: true, sent: 2, first: func(ctx context.Context, _ func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		"its answer comes late": {done: true, sent: 2, first: func(ctx context.Context, do func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
			response, err := do()
			select {
			case <-time.After(200 * time.Millisecond): // before a third is sent
			case <-ctx.Done():
			}
			return response, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			key := "twice/" + name
			if test.taken {
				put(t, store, key, "another's")
			}
			txn := Txn{If: []Guard{Missing(key)}, Then: []Op{Put(key, "ours")}}
			if !txn.breaksItself() {
				t.Fatal("it could be done twice")
			}
			writes, err := txn.writes()
			must(t, err)
			sent := make(chan int, mostSent)
			response, err := resend(t.Context(), 100*time.Millisecond, func(ctx context.Context) (*clientv3.TxnResponse, error) {
				do := func() (*clientv3.TxnResponse, error) {
					return store.transact(ctx, store.compares(txn.If), store.operations(writes), nil)
				}
				if sent <- 1; len(sent) == 1 {
					return test.first(ctx, do)
				}
				return do()
			})
			must(t, err)
			if response.Succeeded != test.done || len(sent) != test.sent {
				t.Errorf("done: %t, sent %d times", response.Succeeded, len(sent))
			}
		})
	}
}

func TestBreaksItself(t *testing.T) {
	item := Item{Key: "a/1", Revision: 7}
	for name, test := range map[string]struct {
		txn  Txn
		want bool
	}{
		"no guard":               {Txn{Then: []Op{Put("a/1", 1)}}, false},
		"a guard of another":     {Txn{If: []Guard{Missing("a/2")}, Then: []Op{Put("a/1", 1)}}, false},
		"created":                {Txn{If: []Guard{Missing("a/1")}, Then: []Op{Put("a/1", 1)}}, true},
		"kept":                   {Txn{If: []Guard{Exists("a/1")}, Then: []Op{Put("a/1", 1)}}, false},
		"changed":                {Txn{If: []Guard{Unchanged(item)}, Then: []Op{Put("a/1", 1)}}, true},
		"deleted":                {Txn{If: []Guard{Exists("a/1")}, Then: []Op{Delete("a/1")}}, true},
		"deleted, where none":    {Txn{If: []Guard{Unchanged(Item{Key: "a/1"})}, Then: []Op{Delete("a/1")}}, false},
		"deleted with its like":  {Txn{If: []Guard{Unchanged(item)}, Then: []Op{DeletePrefix("a/")}}, true},
		"the first of a prefix":  {Txn{If: []Guard{NoneNewer("a/", 7)}, Then: []Op{Put("a/1", 1)}}, true},
		"one of another prefix":  {Txn{If: []Guard{NoneNewer("a/", 7)}, Then: []Op{Put("b/1", 1)}}, false},
		"deleted, where missing": {Txn{If: []Guard{Missing("a/1")}, Then: []Op{Delete("a/1")}}, false},
	} {
		if got := test.txn.breaksItself(); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestWritesDuringHandovers has the store's leader leave and come back under writes of
// clients of all members: none waits for what the leader dropped.
func TestWritesDuringHandovers(t *testing.T) {
	c := newClosedStore(t)
	first := c.open(c.members["h1"].dir)
	for _, name := range []string{"h2", "h3"} {
		c.join(first, name)
	}
	stores := map[string]*Etcd{}
	for name, m := range c.members {
		stores[name] = c.open(m.dir)
	}
	ctx, stop := context.WithCancel(t.Context())
	slowest := make(chan error, len(stores))
	for name, store := range stores {
		go func() {
			var worst time.Duration
			var failed error
			for n := 0; ctx.Err() == nil; n++ {
				key, begun := fmt.Sprintf("handover/%s-%d", name, n), time.Now()
				_, err := store.Commit(t.Context(), Txn{If: []Guard{Missing(key)}, Then: []Op{Put(key, n)}})
				worst = max(worst, time.Since(begun))
				if errors.Is(err, ErrConflict) { // it was done, and the answer went with the member
					_, err = store.Get(t.Context(), key)
				}
				failed = errors.Join(failed, err)
			}
			if worst > requestTimeout/2 {
				failed = errors.Join(failed, fmt.Errorf("a write of %s took %v", name, worst))
			}
			slowest <- failed
		}()
	}
	for range 2 {
		for _, m := range c.members {
			must(t, m.Close())
			m.run(t)
		}
	}
	stop()
	for range stores {
		if err := <-slowest; err != nil {
			t.Error(err)
		}
	}
}

// Writers write by a member that does not lead while the leadership goes to and fro. None
// waits for what a leader dropped, and none, the only one of its record, is told of a
// conflict with itself.
func TestHandover(t *testing.T) {
	t.Parallel()
	c := newClosedStore(t)
	all := c.open(c.trusted("h9"))
	follower, other := c.join(all, "h2"), c.join(all, "h3")
	first := c.members["h1"]
	store, err := Open(Config{Endpoints: []string{ClientURL(follower.config.Client)}, TLS: follower.dir.Client()})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })

	const longest = 5 * time.Second // a member waits 7 s for what was dropped
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var writing sync.WaitGroup
	for n := range 4 {
		writing.Go(func() {
			item := Item{Key: fmt.Sprint("counters/", n)}
			for n := 0; ctx.Err() == nil; n++ {
				begun := time.Now()
				var err error
				item.Revision, err = store.Commit(t.Context(), Txn{If: []Guard{Unchanged(item)}, Then: []Op{Put(item.Key, n)}})
				if waited := time.Since(begun); err != nil || waited > longest {
					t.Errorf("write %d took %v: %v", n, waited, err)
					return
				}
			}
		})
	}
	const enough = 8
	handovers := 0
	for handovers < enough && ctx.Err() == nil {
		for m, next := range map[*closedMember]*closedMember{first: other, other: first, follower: first} { // an election may take the follower
			if m.Leads() && yields(ctx, m, next) {
				handovers++
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	cancel()
	writing.Wait()
	if handovers < enough {
		t.Errorf("the leadership was handed over %d times", handovers)
	}
}

// yields says whether the leadership went to next. It may go to a third or stay, which the
// leader of before does not hear.
func yields(ctx context.Context, m, next *closedMember) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return m.Yield(ctx, next.ID()) == nil
}
