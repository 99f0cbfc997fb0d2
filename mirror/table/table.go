// Package table has the records below a prefix in memory, decoded and kept up to date.
//
// A change's path: [Table.Follow] watches the prefix, merges each change into the rows
// and tells of it; any goroutine reads the rows.
package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/causeway-net/causeway/kvstore"
)

// Table holds the records below a prefix, by the rest of their key. The zero Table is
// empty; it is safe for concurrent use.
type Table[T any] struct {
	mu     sync.RWMutex // guards all below
	rows   map[string]T
	synced bool // the first complete list is in rows
}

// Follow keeps the table up to date until ctx ends, and returns its error. changed gets
// the keys of each change, and one error for all records that cannot be read.
func (t *Table[T]) Follow(ctx context.Context, store kvstore.Store, prefix string, changed func(keys []string, err error)) error {
	bad := make(map[string]error)
	return kvstore.Watch(ctx, store, prefix, func(c kvstore.Change[T]) {
		t.mu.Lock()
		if t.rows == nil {
			t.rows = make(map[string]T)
		}
		c.Merge(t.rows)
		t.synced = true
		t.mu.Unlock()
		keys := append(slices.Collect(maps.Keys(c.Put)), c.Gone...)
		for _, key := range keys {
			delete(bad, key)
		}
		maps.Copy(bad, c.Bad)
		changed(keys, unreadable(prefix, bad))
	})
}

func unreadable(prefix string, bad map[string]error) error {
	if len(bad) == 0 {
		return nil
	}
	first := slices.Min(slices.Collect(maps.Keys(bad)))
	return fmt.Errorf("%d records below %s cannot be read, the first is %s: %w", len(bad), prefix, first, errors.Unwrap(bad[first]))
}

// Get gives one row.
func (t *Table[T]) Get(key string) (T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	row, there := t.rows[key]
	return row, there
}

// All copies the rows; synced says that they are complete.
func (t *Table[T]) All() (rows map[string]T, synced bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.rows), t.synced
}
