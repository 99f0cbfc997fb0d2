package kvstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// increment adds one to a number by a change that goes by memory.
func increment(ctx context.Context, store Store, key string) error {
	return RetryRecalled(ctx, key, func(ctx context.Context) error {
		n, item, err := Read[int](Guess(ctx), store, key)
		guard := Unchanged(item)
		if errors.Is(err, ErrNotFound) {
			n, guard, err = 0, Missing(key), nil
		}
		if err != nil {
			return err
		}
		_, err = store.Commit(ctx, Txn{If: []Guard{guard}, Then: []Op{Put(key, n+1)}})
		return err
	})
}

// What is remembered saves the reads, and a conflict shows what there is.
func TestRecall(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Volatile: true})
	here, there := server.Open("", Identity{}, nil), server.Open("", Identity{}, nil)
	t.Cleanup(func() { closeStore(t, here); closeStore(t, there) })
	must(t, errors.Join(here.Health(t.Context()), there.Health(t.Context())))
	gone := Txn{Then: []Op{DeletePrefix("n/")}}
	for _, step := range []struct {
		what     string
		before   func()
		requests int64
	}{
		{"nothing is remembered, and nothing is there", func() {}, 1},
		{"it was written here", func() {}, 1},
		{"another wrote it", func() { must(t, increment(t.Context(), there, "n/a")) }, 2},
		{"another deleted it", func() { commit(t, there, gone) }, 2},
		{"it was deleted here", func() { commit(t, here, gone) }, 1},
		{"its last writing had no answer", func() {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := here.Commit(ended, Txn{Then: []Op{Put("n/a", 7)}}); err == nil {
				t.Error("a request of the past was answered")
			}
		}, 2},
		{"the memory is full of others", func() {
			for n := range 2 * mostRemembered {
				here.memory.note(Item{Key: fmt.Sprint("n/", n), Revision: 1})
			}
		}, 2},
	} {
		step.before()
		before := here.Requests()
		must(t, increment(t.Context(), here, "n/a"))
		if got := here.Requests() - before; got != step.requests {
			t.Errorf("%s: %d requests, want %d", step.what, got, step.requests)
		}
	}
	if n, _, err := Read[int](t.Context(), there, "n/a"); err != nil || n < 1 {
		t.Errorf("in the end there is %d, %v", n, err)
	}
}

// Changes by memory of several processes lose none of each other's, whatever each remembers.
func TestRecallLosesNothing(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Volatile: true})
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		key := fmt.Sprint("numbers/", round)
		var group sync.WaitGroup
		adds := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 3).Draw(t, "increments of each process")
		failed := make(chan error, 20)
		want := 0
		for _, times := range adds {
			want += times
			group.Go(func() {
				store := server.Open("", Identity{}, nil)
				defer store.Close()
				for range times {
					if err := increment(context.Background(), store, key); err != nil {
						failed <- err
					}
				}
			})
		}
		group.Wait()
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		n, _, err := Read[int](context.Background(), server, key)
		if want > 0 && (err != nil || n != want) {
			t.Fatalf("%d, %v; want %d", n, err, want)
		}
	})
}

// An answer that comes late does not put out what is known of a later change.
func TestMemoryKeepsTheLatest(t *testing.T) {
	var m memory
	at := func(revision int64) []write {
		return []write{{kind: opPut, key: "a/b", value: fmt.Append(nil, revision)}}
	}
	m.wrote(at(5), 5)
	m.wrote(at(3), 3)
	m.wrote([]write{{kind: opDelete, key: "a/b"}}, 4)
	m.wrote([]write{{kind: opDeletePrefix, key: "a/"}}, 4)
	if item, known := m.get("a/b"); !known || item.Revision != 5 {
		t.Errorf("known: %v %+v", known, item)
	}
	m.wrote([]write{{kind: opDeletePrefix, key: "a/"}}, 6)
	if _, known := m.get("a/b"); known {
		t.Error("what was deleted is remembered")
	}
	m.note(Item{Key: "long", Revision: 1, Value: make([]byte, longestRemembered+1)})
	if _, known := m.get("long"); known {
		t.Error("a long record is kept")
	}
}
