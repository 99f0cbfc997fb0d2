package kvstore

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"sync"
)

// A transaction may go by what this process remembers of the records in it, and be
// guarded by that: what it remembers saves the reads, and where it is out of date the
// transaction fails and is done again.

// memory has records as this process wrote them, or as a conflict has shown them. It
// forgets the oldest.
type memory struct {
	mu sync.Mutex // guards all
	// fresh takes what is new; when it is full, it becomes old.
	fresh, old map[string]Item
}

const (
	mostRemembered    = 4096 // records in each half of a memory
	longestRemembered = 1 << 10
)

func (m *memory) get(key string) (Item, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known(key)
}

func (m *memory) known(key string) (Item, bool) {
	item, known := m.fresh[key]
	if !known {
		item, known = m.old[key]
	}
	return item, known
}

// note keeps item unless a later one is known: answers may come in another order.
func (m *memory) note(item Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.known(item.Key); ok && known.Revision > item.Revision {
		return
	}
	m.drop(item.Key)
	if len(item.Value) > longestRemembered || item.Oversize > 0 {
		return
	}
	if m.fresh == nil || len(m.fresh) >= mostRemembered {
		m.fresh, m.old = map[string]Item{}, m.fresh
	}
	m.fresh[item.Key] = item
}

func (m *memory) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
}

func (m *memory) drop(key string) {
	delete(m.fresh, key)
	delete(m.old, key)
}

// forgetAll is for a store whose revisions may mean something else.
func (m *memory) forgetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fresh, m.old = nil, nil
}

// wrote notes the writes of a transaction that was done at revision.
func (m *memory) wrote(writes []write, revision int64) {
	m.deleted(writes, revision)
	for _, w := range writes {
		if w.kind == opPut {
			m.note(Item{Key: w.key, Value: w.value, Revision: revision})
		}
	}
}

// lost forgets what a transaction may have written or not.
func (m *memory) lost(writes []write) { m.deleted(writes, math.MaxInt64) }

// deleted forgets what is known of the keys of writes up to revision.
func (m *memory) deleted(writes []write, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range writes {
		for _, half := range []map[string]Item{m.fresh, m.old} {
			if item, known := half[w.key]; known && item.Revision <= revision {
				delete(half, w.key)
			}
			if w.kind == opDeletePrefix {
				maps.DeleteFunc(half, func(key string, item Item) bool {
					return strings.HasPrefix(key, w.key) && item.Revision <= revision
				})
			}
		}
	}
}

type recallKey struct{}

// recall marks Gets that are answered from memory where the record is in it.
func recall(ctx context.Context) context.Context { return context.WithValue(ctx, recallKey{}, true) }

// Recalls says whether Gets with ctx may be answered from memory.
func Recalls(ctx context.Context) bool { return ctx.Value(recallKey{}) != nil }

type guessKey struct{}

// Guess marks a Get which, if it may be answered from memory, says [ErrNotFound] where
// the record is not in it. The caller guards that with [Missing].
func Guess(ctx context.Context) context.Context { return context.WithValue(ctx, guessKey{}, true) }

// RetryRecalled is [Retry] for a change that is first tried by memory. The ctx that try
// gets says so to Get, and try guards every record that it goes by: a conflict shows
// what the guarded records are now, so that the second try needs no reads either. Any
// other error is as good as what is remembered, so all is read then; ErrUnavailable is
// returned.
func RetryRecalled(ctx context.Context, what string, try func(context.Context) error) error {
	const tries = 2
	for range tries {
		err := try(recall(ctx))
		if err == nil || errors.Is(err, ErrUnavailable) {
			return err
		}
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	return Retry(ctx, what, func() error { return try(ctx) })
}
