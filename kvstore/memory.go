package kvstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// Memory is the Store of one process, for unit tests: the same semantics as
// Etcd, without etcd.
type Memory struct {
	mu       sync.Mutex // guards all below
	revision int64
	items    map[string]Item
	// changed is closed at the next write.
	changed chan struct{}
}

var _ Store = (*Memory)(nil)

// NewMemory gives an empty store. Like etcd's, its first write has revision 2.
func NewMemory() *Memory {
	return &Memory{revision: 1, items: make(map[string]Item), changed: make(chan struct{})}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	item, ok := m.items[key]
	if !ok {
		return Item{}, fmt.Errorf("record %s: %w", key, ErrNotFound)
	}
	item.Value = bytes.Clone(item.Value)
	return item, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) (Snapshot, error) {
	if err := checkPrefix(prefix); err != nil {
		return Snapshot{}, err
	}
	snapshot, _ := m.snapshot(prefix)
	return snapshot, ctx.Err()
}

// snapshot also gives the channel that is closed when it is no longer so.
func (m *Memory) snapshot(prefix string) (Snapshot, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := make(map[string]Item)
	for key, item := range m.items {
		if strings.HasPrefix(key, prefix) {
			item.Value = bytes.Clone(item.Value)
			items[key] = item
		}
	}
	return Snapshot{Revision: m.revision, Items: items}, m.changed
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, txn Txn) (int64, error) {
	writes, err := txn.writes()
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, guard := range txn.If {
		if !m.holds(guard) {
			return 0, txn.conflict()
		}
	}
	next, wrote := m.revision+1, false
	for _, w := range writes {
		switch w.kind {
		case opPut:
			m.items[w.key] = Item{Key: w.key, Value: w.value, Revision: next}
			wrote = true
		case opDelete:
			_, found := m.items[w.key]
			delete(m.items, w.key)
			wrote = wrote || found
		case opDeletePrefix:
			before := len(m.items)
			maps.DeleteFunc(m.items, func(key string, _ Item) bool { return strings.HasPrefix(key, w.key) })
			wrote = wrote || len(m.items) < before
		}
	}
	if wrote {
		m.revision = next
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return m.revision, nil
}

func (m *Memory) holds(guard Guard) bool {
	item, ok := m.items[guard.key]
	switch guard.kind {
	case guardMissing:
		return !ok
	case guardExists:
		return ok
	case guardUnchanged:
		return item.Revision == guard.revision
	case guardNoneNewer:
		for key, item := range m.items {
			if strings.HasPrefix(key, guard.key) && item.Revision > guard.revision {
				return false
			}
		}
		return guard.revision >= 0
	}
	return false
}

// Follow implements Store.
func (m *Memory) Follow(ctx context.Context, prefix string, handle func(Snapshot)) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	var last Snapshot
	for called := false; ctx.Err() == nil; called = true {
		now, changed := m.snapshot(prefix)
		now.Changed = differing(last.Items, now.Items)
		last = now
		if !called || len(now.Changed) > 0 {
			handle(now)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return ctx.Err()
}

// Hold implements Store. There is no crash to outlive, so ttl does nothing.
func (m *Memory) Hold(ctx context.Context, key string, value any, _ time.Duration) error {
	if _, err := encode(key, value); err != nil {
		return err
	}
	for ctx.Err() == nil {
		_, changed := m.snapshot(key + "/")
		// A conflict says that the record is still there.
		_, _ = m.Commit(ctx, Txn{If: []Guard{Missing(key)}, Then: []Op{Put(key, value)}})
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	_, err := m.Commit(context.WithoutCancel(ctx), Txn{Then: []Op{Delete(key)}})
	if err != nil {
		return err
	}
	return ctx.Err()
}

// Health implements Store.
func (m *Memory) Health(ctx context.Context) error { return ctx.Err() }
