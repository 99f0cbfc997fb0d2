package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// Store is store, with the time of each request noted.
func (m *Metrics) Store(store kvstore.Store) kvstore.Store { return &timedStore{store, m} }

type timedStore struct {
	kvstore.Store
	m *Metrics
}

// Get implements [kvstore.Store].
func (s *timedStore) Get(ctx context.Context, key string) (kvstore.Item, error) {
	return timed(s.m, "get", func() (kvstore.Item, error) { return s.Store.Get(ctx, key) })
}

// GetAll implements [kvstore.Store].
func (s *timedStore) GetAll(ctx context.Context, keys []string) (kvstore.Snapshot, error) {
	return timed(s.m, "get", func() (kvstore.Snapshot, error) { return s.Store.GetAll(ctx, keys) })
}

// List implements [kvstore.Store].
func (s *timedStore) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	return timed(s.m, "list", func() (kvstore.Snapshot, error) { return s.Store.List(ctx, prefix) })
}

// Commit implements [kvstore.Store].
func (s *timedStore) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	return timed(s.m, "commit", func() (int64, error) { return s.Store.Commit(ctx, txn) })
}

func timed[T any](m *Metrics, operation string, request func() (T, error)) (T, error) {
	begun := time.Now()
	value, err := request()
	m.requests.WithLabelValues(operation).Observe(time.Since(begun).Seconds())
	if errors.Is(err, kvstore.ErrUnavailable) {
		m.unserved.WithLabelValues(operation).Inc()
	}
	return value, err
}
