package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// wait waits until the store has this host's records, no longer than a request may take.
func (s *Store) wait(ctx context.Context) error {
	const requestTimeout = 8 * time.Second
	select {
	case <-s.ready:
		return nil
	default:
	}
	if err := s.store.Health(ctx); err != nil {
		return err // it says why the store does not answer
	}
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(requestTimeout):
		return fmt.Errorf("%w: this host's records are not put back into it yet", kvstore.ErrUnavailable)
	}
}

// Get implements [kvstore.Store].
func (s *Store) Get(ctx context.Context, key string) (kvstore.Item, error) {
	if err := s.wait(ctx); err != nil {
		return kvstore.Item{}, err
	}
	return s.store.Get(ctx, key)
}

// GetAll implements [kvstore.Store].
func (s *Store) GetAll(ctx context.Context, keys []string) (kvstore.Snapshot, error) {
	if err := s.wait(ctx); err != nil {
		return kvstore.Snapshot{}, err
	}
	return s.store.GetAll(ctx, keys)
}

// List implements [kvstore.Store].
func (s *Store) List(ctx context.Context, prefix string) (kvstore.Snapshot, error) {
	if err := s.wait(ctx); err != nil {
		return kvstore.Snapshot{}, err
	}
	return s.store.List(ctx, prefix)
}

// Commit implements [kvstore.Store].
func (s *Store) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	return s.store.Commit(ctx, txn)
}

// Follow implements [kvstore.Store].
func (s *Store) Follow(ctx context.Context, prefix string, handle func(kvstore.Snapshot)) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	first := true
	return s.store.Follow(ctx, prefix, func(snapshot kvstore.Snapshot) {
		s.note(prefix, snapshot, first)
		first = false
		handle(snapshot)
	})
}

// Hold implements [kvstore.Store].
func (s *Store) Hold(ctx context.Context, key string, value any, ttl time.Duration) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.store.Hold(ctx, key, value, ttl)
}

// Health implements [kvstore.Store].
func (s *Store) Health(ctx context.Context) error { return s.store.Health(ctx) }
