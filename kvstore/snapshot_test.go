package kvstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A snapshot is a store again, with the records of then. Who belonged to the old
// one takes it at the start, and is told while it runs.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	first, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: dir, Volatile: true})
	must(t, err)
	commit := func(store Store, key string) {
		t.Helper()
		_, err := store.Commit(t.Context(), Txn{Then: []Op{Put(key, key)}})
		must(t, err)
	}
	commit(first, "records/before")
	var snapshot bytes.Buffer
	must(t, first.Backup(t.Context(), &snapshot))
	commit(first, "records/after")
	known := first.ID()
	must(t, first.Close())

	file := filepath.Join(t.TempDir(), "snapshot")
	must(t, os.WriteFile(file, snapshot.Bytes(), 0o600))
	_, err = Restore(t.Context(), Restoring{Snapshot: file, DataDir: dir})
	must(t, err)
	if _, err := Restore(t.Context(), Restoring{Snapshot: file, DataDir: dir}); err == nil || !strings.Contains(err.Error(), "etcd.before-restore") {
		t.Errorf("a second restore over the first: %v", err)
	}
	var kept string
	second, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: dir, Volatile: true, Identity: Identity{
		Known: known, Keep: func(id string) error { kept = id; return nil },
	}})
	must(t, err)
	list, err := second.List(t.Context(), "records/")
	must(t, err)
	if _, there := list.Items["records/before"]; !there || len(list.Items) != 1 {
		t.Errorf("restored are %v", list.Items)
	}
	if !descends(kept, known) || second.ID() != kept {
		t.Errorf("the store %s became %s, kept as %s", known, second.ID(), kept)
	}
	must(t, second.Close())

	// One that did not know the old store does not take it for its own.
	other, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: dir, Volatile: true, Identity: Identity{Known: "other"}})
	must(t, err)
	defer other.Close()
	if err := other.Health(t.Context()); !errors.Is(err, ErrOtherStore) {
		t.Errorf("another cluster's host: %v", err)
	}
}

// A store that is restored under a running process is refused by it.
func TestRestoredWhileInUse(t *testing.T) {
	store, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: t.TempDir(), Volatile: true})
	must(t, err)
	defer closeStore(t, store)
	must(t, store.Health(t.Context()))
	id := store.ID()
	data, err := encode(identityKey, descendant(id))
	must(t, err)
	_, err = store.client.Put(t.Context(), store.prefix+identityKey, string(data))
	must(t, err)
	if _, err := store.Get(t.Context(), "records/x"); !errors.Is(err, ErrOtherStore) {
		t.Errorf("a read of a restored store: %v", err)
	}
	select {
	case <-store.Restored():
	case <-time.After(5 * time.Second):
		t.Error("nobody was told")
	}
}

func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "etcd", "member"), 0o700))
	garbage := filepath.Join(t.TempDir(), "garbage")
	must(t, os.WriteFile(garbage, []byte(strings.Repeat("garbage", 1000)), 0o600))
	for _, file := range []string{garbage, filepath.Join(dir, "missing")} {
		if _, err := Restore(t.Context(), Restoring{Snapshot: file, DataDir: dir}); err == nil {
			t.Errorf("%s was restored", file)
		}
		if _, err := os.Stat(filepath.Join(dir, "etcd", "member")); err != nil {
			t.Errorf("what was there is not: %v", err)
		}
	}
}
