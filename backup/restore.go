package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// retryEvery is how often a store that is away is tried again.
const retryEvery = time.Second

// restore creates what the store lacks from the copy, once the store answers, and
// then lets all others use it.
func (s *Store) restore(ctx context.Context) {
	for {
		faults, err := s.tryRestore(ctx)
		if err == nil {
			s.Board.Report(health.Scope{Part: health.Store, Object: "restore"}, errors.Join(faults...))
			close(s.ready)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryEvery):
		}
	}
}

// tryRestore says what cannot be restored, or that the store is away.
func (s *Store) tryRestore(ctx context.Context) (faults []error, err error) {
	if err := s.store.Health(ctx); err != nil {
		return nil, err
	}
	if s.store.ID() == s.copy.Store {
		return nil, nil
	}
	r := records.Records{Store: s.store, Host: s.Host}
	for _, id := range slices.Sorted(maps.Keys(s.copy.Networks)) {
		network := s.copy.Networks[id]
		err := s.restoreNetwork(ctx, r, network)
		if errors.Is(err, kvstore.ErrUnavailable) || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("network %s cannot be put into the new store: %w", network.Label(), err))
		}
	}
	return faults, nil
}

// restoreNetwork restores one network, its attachments and its endpoints.
func (s *Store) restoreNetwork(ctx context.Context, r records.Records, network fabric.Network) error {
	if err := r.RestoreNetwork(ctx, network); err != nil {
		return err
	}
	dockerIPAM := false
	for dockerID, attachment := range s.copy.Attachments {
		if attachment.Network != network.ID {
			continue
		}
		dockerIPAM = dockerIPAM || attachment.DockerIPAM
		attaching := records.Attaching{DockerID: dockerID, Attachment: attachment, Mirror: s.Mirror}
		if err := r.RestoreAttachment(ctx, network, attaching); err != nil {
			return err
		}
	}
	var faults []error
	for _, endpoint := range s.copy.Endpoints[network.ID] {
		_, err := r.PutEndpoint(ctx, network, endpoint, "", dockerIPAM, func(context.Context, string) (bool, error) { return false, nil })
		if errors.Is(err, kvstore.ErrUnavailable) {
			return err
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("container %s: %w", endpoint.Name, err))
		}
	}
	return errors.Join(faults...)
}
