package kvstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Any run of transactions gives the same answers, records and revisions in
// Memory, which is simple enough to be right, and in etcd.
func TestMemoryIsLikeEtcd(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir()})
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		etcd := newEtcd("", fmt.Sprintf("/run%d/", runs), nil)
		defer etcd.close()
		etcd.conn = server.conn
		memory := NewMemory()
		before, err := etcd.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		// etcd's revisions go on from run to run.
		offset := before.Revision - memory.revision
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			inMemory, inEtcd := drawTxn(t, memory.revision, offset)
			want, wantErr := memory.Commit(t.Context(), inMemory)
			got, gotErr := etcd.Commit(t.Context(), inEtcd)
			if (wantErr == nil) != (gotErr == nil) || errors.Is(wantErr, ErrConflict) != errors.Is(gotErr, ErrConflict) {
				t.Fatalf("%+v: memory says %v, etcd %v", inMemory, wantErr, gotErr)
			}
			if gotErr == nil && got != want+offset {
				t.Fatalf("%+v: memory is at %d, etcd at %d", inMemory, want, got-offset)
			}
		}
		sameRecords(t, memory, etcd, offset)
	})
}

func sameRecords(t *rapid.T, memory *Memory, etcd *Etcd, offset int64) {
	for _, prefix := range []string{"", "a/"} {
		want, wantErr := memory.List(t.Context(), prefix)
		got, gotErr := etcd.List(t.Context(), prefix)
		if wantErr != nil || gotErr != nil {
			t.Fatal(wantErr, gotErr)
		}
		for key, item := range got.Items {
			item.Revision -= offset
			got.Items[key] = item
		}
		got.Revision -= offset
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

// drawTxn gives one transaction with the revisions of each store.
func drawTxn(t *rapid.T, revision, offset int64) (inMemory, inEtcd Txn) {
	keys := rapid.SampledFrom([]string{"a/1", "a/2", "a", "b/1", "a/b/1"})
	prefixes := rapid.SampledFrom([]string{"a/", "b/", "a/b/", "c/"})
	for range rapid.IntRange(0, 2).Draw(t, "guards") {
		key, seen := keys.Draw(t, "key"), rapid.Int64Range(0, revision).Draw(t, "revision")
		shifted := seen + offset
		if seen == 0 {
			shifted = 0
		}
		switch rapid.IntRange(0, 3).Draw(t, "guard") {
		case 0:
			inMemory.If, inEtcd.If = append(inMemory.If, Missing(key)), append(inEtcd.If, Missing(key))
		case 1:
			inMemory.If, inEtcd.If = append(inMemory.If, Exists(key)), append(inEtcd.If, Exists(key))
		case 2:
			inMemory.If = append(inMemory.If, Unchanged(Item{Key: key, Revision: seen}))
			inEtcd.If = append(inEtcd.If, Unchanged(Item{Key: key, Revision: shifted}))
		case 3:
			prefix := prefixes.Draw(t, "prefix")
			inMemory.If = append(inMemory.If, NoneNewer(prefix, seen))
			inEtcd.If = append(inEtcd.If, NoneNewer(prefix, shifted))
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "operations") {
		op := rapid.SampledFrom([]Op{
			Put(keys.Draw(t, "key"), rapid.Int().Draw(t, "value")),
			Delete(keys.Draw(t, "key")),
			DeletePrefix(prefixes.Draw(t, "prefix")),
		}).Draw(t, "operation")
		inMemory.Then, inEtcd.Then = append(inMemory.Then, op), append(inEtcd.Then, op)
	}
	return inMemory, inEtcd
}
