package kvstore

import (
	"context"
	"maps"
)

// Change is what happened below a prefix, decoded.
type Change[T any] struct {
	// Revision is the store's after the change.
	Revision int64
	// First says that this is the first complete list: from now on the table that
	// the changes are merged into is in sync.
	First bool
	// Put are the records that were written, by the rest of their key.
	Put map[string]T
	// Gone are those that were removed.
	Gone []string
	// Bad are the errors of records that cannot be decoded, by the rest of their
	// key; they are left out.
	Bad map[string]error
}

// Watch hands over all records below prefix and then each change, decoded, until
// ctx ends; it returns ctx's error. A record that becomes unreadable stays as it
// was before.
func Watch[T any](ctx context.Context, store Store, prefix string, handle func(Change[T])) error {
	first := true
	return store.Follow(ctx, prefix, func(snapshot Snapshot) {
		c := Change[T]{Revision: snapshot.Revision, First: first, Put: map[string]T{}, Bad: map[string]error{}}
		first = false
		for _, key := range snapshot.Changed {
			name := key[len(prefix):]
			item, there := snapshot.Items[key]
			if !there {
				c.Gone = append(c.Gone, name)
				continue
			}
			value, err := Decode[T](item)
			if err != nil {
				c.Bad[name] = err
				continue
			}
			c.Put[name] = value
		}
		handle(c)
	})
}

// Merge brings the change into table.
func (c Change[T]) Merge(table map[string]T) {
	maps.Copy(table, c.Put)
	for _, key := range c.Gone {
		delete(table, key)
	}
}
