package kvstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestConformance holds every Store to the same behaviour.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, kind := range backends() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			store := kind.open(t)
			t.Run("get", func(t *testing.T) { testGet(t, store) })
			t.Run("get all", func(t *testing.T) { testGetAll(t, store) })
			t.Run("guards", func(t *testing.T) { testGuards(t, store) })
			t.Run("none newer", func(t *testing.T) { testNoneNewer(t, store) })
			t.Run("conflict writes nothing", func(t *testing.T) { testConflict(t, store) })
			t.Run("refused", func(t *testing.T) { testRefused(t, store) })
			t.Run("one creator", func(t *testing.T) { testOneCreator(t, store) })
			t.Run("pages", func(t *testing.T) { testPages(t, store) })
			t.Run("follow", func(t *testing.T) { testFollow(t, store) })
			t.Run("follow over compaction", func(t *testing.T) { testCompaction(t, store) })
			t.Run("hold", func(t *testing.T) { testHold(t, store) })
		})
	}
}

func commit(t *testing.T, store Store, txn Txn) int64 {
	t.Helper()
	revision, err := store.Commit(t.Context(), txn)
	if err != nil {
		t.Fatalf("commit %v: %v", txn, err)
	}
	return revision
}

func put(t *testing.T, store Store, key string, value any) int64 {
	t.Helper()
	return commit(t, store, Txn{Then: []Op{Put(key, value)}})
}

func testGet(t *testing.T, store Store) {
	if err := store.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := store.Get(t.Context(), "get/a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of no record: %v", err)
	}
	revision := put(t, store, "get/a", map[string]int{"n": 1})
	item, err := store.Get(t.Context(), "get/a")
	want := Item{Key: "get/a", Value: []byte(`{"n":1}`), Revision: revision}
	if diff := cmp.Diff(want, item); err != nil || diff != "" {
		t.Errorf("Get: %v %s", err, diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Get(ctx, "get/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a context that has ended: %v", err)
	}
}

func testGetAll(t *testing.T, store Store) {
	want := Snapshot{Items: map[string]Item{}}
	keys := []string{"all/none"}
	for n := range maxOps - 1 {
		key := fmt.Sprint("all/", n)
		want.Revision = put(t, store, key, n)
		want.Items[key] = Item{Key: key, Value: fmt.Append(nil, n), Revision: want.Revision}
		keys = append(keys, key)
	}
	put(t, store, "all/unasked", 1)
	got, err := store.GetAll(t.Context(), keys)
	if got.Revision <= want.Revision {
		t.Errorf("the revision is %d, of the last record %d", got.Revision, want.Revision)
	}
	want.Revision = got.Revision
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("GetAll: %v %s", err, diff)
	}
	if _, err := store.GetAll(t.Context(), append(keys, "all/more")); err == nil {
		t.Error("more keys than etcd takes are read")
	}
}

func testGuards(t *testing.T, store Store) {
	old := Item{Key: "guards/there", Revision: put(t, store, "guards/there", 1)}
	now := Item{Key: "guards/there", Revision: put(t, store, "guards/there", 2)}
	if now.Revision <= old.Revision {
		t.Errorf("revision went from %d to %d", old.Revision, now.Revision)
	}
	for name, test := range map[string]struct {
		guard Guard
		holds bool
	}{
		"missing, is":        {Missing("guards/none"), true},
		"missing, is not":    {Missing("guards/there"), false},
		"exists, does":       {Exists("guards/there"), true},
		"exists, does not":   {Exists("guards/none"), false},
		"unchanged, is":      {Unchanged(now), true},
		"unchanged, is not":  {Unchanged(old), false},
		"unchanged, gone":    {Unchanged(Item{Key: "guards/none", Revision: now.Revision}), false},
		"none newer, is":     {NoneNewer("guards/", now.Revision), true},
		"none newer, is not": {NoneNewer("guards/", old.Revision), false},
	} {
		_, err := store.Commit(t.Context(), Txn{If: []Guard{test.guard}})
		if test.holds && err != nil || !test.holds && !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testNoneNewer(t *testing.T, store Store) {
	guarded := func(revision int64) error {
		_, err := store.Commit(t.Context(), Txn{If: []Guard{NoneNewer("newer/", revision)}})
		return err
	}
	put(t, store, "newer", 1) // siblings: not below the prefix
	put(t, store, "newer2/a", 1)
	if err := guarded(0); err != nil {
		t.Errorf("no record below the prefix: %v", err)
	}
	revision := put(t, store, "newer/a", 1)
	if err := guarded(revision - 1); !errors.Is(err, ErrConflict) {
		t.Errorf("a newer record: %v", err)
	}
	commit(t, store, Txn{Then: []Op{Delete("newer/a")}})
	if err := guarded(revision - 1); err != nil {
		t.Errorf("the newer record was removed: %v", err)
	}
}

func testConflict(t *testing.T, store Store) {
	put(t, store, "conflict/a", 1)
	before, err := store.List(t.Context(), "conflict/")
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Commit(t.Context(), Txn{
		If:   []Guard{Exists("conflict/a"), Missing("conflict/a")},
		Then: []Op{Put("conflict/b", 1), Delete("conflict/a")},
	})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("commit: %v", err)
	}
	after, err := store.List(t.Context(), "conflict/")
	if diff := cmp.Diff(before.Items, after.Items); err != nil || diff != "" {
		t.Errorf("List: %v %s", err, diff)
	}
}

func testRefused(t *testing.T, store Store) {
	for name, txn := range map[string]Txn{
		"two puts":                  {Then: []Op{Put("refused/a", 1), Put("refused/a", 2)}},
		"put and delete":            {Then: []Op{Delete("refused/a"), Put("refused/a", 2)}},
		"put and delete of prefix":  {Then: []Op{Put("refused/a", 1), DeletePrefix("refused/")}},
		"prefix that siblings meet": {Then: []Op{DeletePrefix("refused")}},
		"value that is no JSON":     {Then: []Op{Put("refused/a", func() {})}},
		"record that is too long":   {Then: []Op{Put("refused/a", strings.Repeat("x", MaxRecord))}},
		"128 guards":                {If: slices.Repeat([]Guard{Missing("refused/a")}, 128)},
		"129 writes":                {Then: slices.Repeat([]Op{Delete("refused/a")}, 129)},
	} {
		if _, err := store.Commit(t.Context(), txn); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	most := Txn{If: slices.Repeat([]Guard{Missing("refused/a")}, 127), Then: slices.Repeat([]Op{Delete("refused/a")}, 128)}
	if _, err := store.Commit(t.Context(), most); err != nil {
		t.Errorf("127 guards and 128 writes: %v", err)
	}
	if _, err := store.List(t.Context(), "refused"); err == nil {
		t.Error("List took a prefix that siblings meet")
	}
	if err := store.Follow(t.Context(), "refused", func(Snapshot) {}); err == nil {
		t.Error("Follow took a prefix that siblings meet")
	}
}

func testOneCreator(t *testing.T, store Store) {
	const rivals = 20
	var created, refused atomic.Int32
	var group sync.WaitGroup
	for i := range rivals {
		group.Go(func() {
			_, err := store.Commit(t.Context(), Txn{If: []Guard{Missing("creator/a")}, Then: []Op{Put("creator/a", i)}})
			switch {
			case err == nil:
				created.Add(1)
			case errors.Is(err, ErrConflict):
				refused.Add(1)
			}
		})
	}
	group.Wait()
	if created.Load() != 1 || refused.Load() != rivals-1 {
		t.Errorf("%d rivals created the record, %d were refused", created.Load(), refused.Load())
	}
}

func testPages(t *testing.T, store Store) {
	const records, batch = 5_001, 100
	for first := 0; first < records; first += batch {
		var txn Txn
		for i := first; i < min(first+batch, records); i++ {
			txn.Then = append(txn.Then, Put(fmt.Sprintf("pages/%05d", i), i))
		}
		commit(t, store, txn)
	}
	put(t, store, "pages0", 0)
	snapshot, err := store.List(t.Context(), "pages/")
	if err != nil || len(snapshot.Items) != records {
		t.Fatalf("List gave %d of %d records: %v", len(snapshot.Items), records, err)
	}
	last := fmt.Sprintf("pages/%05d", records-1)
	if item := snapshot.Items[last]; item.Key != last || item.Revision > snapshot.Revision {
		t.Errorf("last item is %+v at revision %d", item, snapshot.Revision)
	}
	commit(t, store, Txn{Then: []Op{DeletePrefix("pages/")}})
	snapshot, err = store.List(t.Context(), "pages/")
	if err != nil || len(snapshot.Items) != 0 {
		t.Errorf("%d records are left: %v", len(snapshot.Items), err)
	}
	if _, err := store.Get(t.Context(), "pages0"); err != nil {
		t.Errorf("sibling of a removed prefix: %v", err)
	}
}

func testFollow(t *testing.T, store Store) {
	put(t, store, "follow/a", 1)
	put(t, store, "followed/x", 1)
	next := follow(t, store, "follow/")
	first := next("the first list", always)
	if diff := cmp.Diff([]string{"follow/a"}, first.changed); diff != "" {
		t.Error(diff)
	}
	var last int64
	for _, step := range []struct {
		then    []Op
		changed []string
		items   map[string]string
	}{
		{[]Op{Put("follow/b", 1)}, []string{"follow/b"}, map[string]string{"follow/a": "1", "follow/b": "1"}},
		{[]Op{Put("follow/a", 2), Delete("follow/b"), Put("followed/y", 1)}, []string{"follow/a", "follow/b"}, map[string]string{"follow/a": "2"}},
		{[]Op{Put("follow/d", 1), Put("follow/c", 1)}, []string{"follow/c", "follow/d"}, map[string]string{"follow/a": "2", "follow/c": "1", "follow/d": "1"}},
		{[]Op{DeletePrefix("follow/")}, []string{"follow/a", "follow/c", "follow/d"}, map[string]string{}},
	} {
		put(t, store, "followed/z", 1) // must not be seen
		revision := commit(t, store, Txn{Then: step.then})
		call := next("a change", always)
		if diff := cmp.Diff(step.changed, call.changed); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(step.items, call.items); diff != "" {
			t.Error(diff)
		}
		if call.revision != revision || call.revision <= last {
			t.Errorf("revision %d, want %d, was %d", call.revision, revision, last)
		}
		last = call.revision
	}
}

// testCompaction compacts while the first list is being handled: the watch that
// follows it comes too late.
func testCompaction(t *testing.T, store Store) {
	client, _ := rawEtcd(t, store)
	put(t, store, "compaction/a", 1)
	put(t, store, "compaction/b", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var changed [][]string
	err := store.Follow(ctx, "compaction/", func(s Snapshot) {
		changed = append(changed, slices.Clone(s.Changed))
		if len(changed) > 1 {
			cancel()
			return
		}
		put(t, store, "compaction/b", 2)
		put(t, store, "compaction/c", 1)
		revision := commit(t, store, Txn{Then: []Op{Delete("compaction/a")}})
		if _, err := client.Compact(t.Context(), revision); err != nil {
			t.Error(err)
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	want := [][]string{{"compaction/a", "compaction/b"}, {"compaction/a", "compaction/b", "compaction/c"}}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Error(diff)
	}
}

func testHold(t *testing.T, store Store) {
	const key = "alive/h1"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- store.Hold(ctx, key, map[string]int{"n": 1}, 2*time.Second) }()
	next := follow(t, store, "alive/")
	if call := next("the record", has(key)); call.items[key] != `{"n":1}` {
		t.Errorf("value is %s", call.items[key])
	}
	commit(t, store, Txn{Then: []Op{Delete(key)}})
	next("the record made again", has(key))
	client, prefix := rawEtcd(t, store)
	got, err := client.Get(t.Context(), prefix+key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(got, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	next("the record gone with its lease", lacks(key))
	next("the record made again on a new lease", has(key))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Hold returned %v", err)
	}
	if _, err := store.Get(t.Context(), key); !errors.Is(err, ErrNotFound) {
		t.Errorf("after Hold: %v", err)
	}
}
