package hammer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// mortal is the store of an agent that is killed at one of its operations: before it
// is done, or after, so that nobody hears of it.
type mortal struct {
	kvstore.Store
	dead chan struct{} // closed at the kill

	mu    sync.Mutex
	left  int  // operations until the kill; guarded by mu
	after bool // the last one is done
}

func newMortal(store kvstore.Store, operations int, after bool) *mortal {
	return &mortal{Store: store, dead: make(chan struct{}), left: operations, after: after}
}

var errKilled = fmt.Errorf("the agent was killed: %w", kvstore.ErrUnavailable)

func (m *mortal) killed() bool {
	select {
	case <-m.dead:
		return true
	default:
		return false
	}
}

// begin counts an operation; last says that the agent dies when it is done.
func (m *mortal) begin() (last bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killed() {
		return false, errKilled
	}
	if m.left--; m.left > 0 {
		return false, nil
	}
	if m.after {
		return true, nil
	}
	close(m.dead)
	return false, errKilled
}

func (m *mortal) end(last bool, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last && !m.killed() {
		close(m.dead)
	}
	if m.killed() {
		return errKilled
	}
	return err
}

func (m *mortal) Get(ctx context.Context, key string) (kvstore.Item, error) {
	last, err := m.begin()
	if err != nil {
		return kvstore.Item{}, err
	}
	item, err := m.Store.Get(ctx, key)
	return item, m.end(last, err)
}

func (m *mortal) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	last, err := m.begin()
	if err != nil {
		return kvstore.Snapshot{}, err
	}
	snapshot, err := m.Store.List(ctx, prefix)
	return snapshot, m.end(last, err)
}

func (m *mortal) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	last, err := m.begin()
	if err != nil {
		return 0, err
	}
	revision, err := m.Store.Commit(ctx, txn)
	return revision, m.end(last, err)
}

func (m *mortal) Follow(ctx context.Context, prefix string, handle func(kvstore.Snapshot)) error {
	return m.Store.Follow(ctx, prefix, func(snapshot kvstore.Snapshot) {
		if !m.killed() {
			handle(snapshot)
		}
	})
}

func (m *mortal) Hold(ctx context.Context, key string, value any, ttl time.Duration) error {
	return m.Store.Hold(ctx, key, value, ttl)
}

func (m *mortal) Health(ctx context.Context) error {
	if m.killed() {
		return errKilled
	}
	return m.Store.Health(ctx)
}
