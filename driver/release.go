package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Release erases all that a host which is gone had: its endpoints with their
// addresses, its ties to networks, and itself. It returns the number of
// endpoints. A host that is alive is refused; one that is not known is
// [kvstore.ErrNotFound].
func Release(ctx context.Context, store kvstore.Store, host string) (int, error) {
	if err := checkGone(ctx, store, host); err != nil {
		return 0, err
	}
	if _, err := store.Get(ctx, records.HostKey(host)); err != nil {
		return 0, fmt.Errorf("host %s: %w", host, err)
	}
	gone := releaser{records.Records{Store: store, Host: host, While: []kvstore.Guard{kvstore.Missing(records.AliveKey(host))}}}
	erased, err := gone.releaseAll(ctx)
	if errors.Is(err, kvstore.ErrConflict) {
		if _, dead := store.Get(ctx, records.AliveKey(host)); dead == nil {
			return erased, fmt.Errorf("host %s came back meanwhile, and %d of its endpoints were released: restart their containers: %w", host, erased, err)
		}
	}
	return erased, err
}

// checkGone refuses a host that is alive.
func checkGone(ctx context.Context, store kvstore.Store, host string) error {
	_, err := store.Get(ctx, records.AliveKey(host))
	switch {
	case err == nil:
		return fmt.Errorf("host %s is alive: stop causeway there first", host)
	case errors.Is(err, kvstore.ErrNotFound):
		return nil
	}
	return err
}

// releaseAll erases what the host had, and counts its endpoints.
func (r releaser) releaseAll(ctx context.Context) (int, error) {
	erased, err := r.eraseAll(ctx)
	if err != nil {
		return erased, err
	}
	if err := r.freeAll(ctx); err != nil {
		return erased, err
	}
	if err := r.ReleaseMembers(ctx); err != nil {
		return erased, err
	}
	_, err = r.Store.Commit(ctx, kvstore.Txn{
		If: r.While,
		Then: []kvstore.Op{
			kvstore.DeletePrefix(records.HostAttachments(r.Host)),
			kvstore.Delete(records.HostKey(r.Host)),
		},
	})
	return erased, err
}

// eraseAll erases the host's endpoints on all networks, and counts them.
func (r releaser) eraseAll(ctx context.Context) (int, error) {
	snapshot, err := r.Store.List(ctx, records.EndpointsPrefix)
	if err != nil {
		return 0, err
	}
	erased := 0
	for _, item := range snapshot.Items {
		endpoint, err := kvstore.Decode[fabric.Endpoint](item)
		if err != nil || endpoint.Host != r.Host {
			continue
		}
		if err := r.DeleteEndpoint(ctx, endpoint.Network, endpoint.ID, true); err != nil {
			return erased, err
		}
		erased++
	}
	return erased, nil
}

// freeAll frees what the host claimed for endpoints that never came.
func (r releaser) freeAll(ctx context.Context) error {
	snapshot, err := r.Store.List(ctx, records.AddressesPrefix)
	if err != nil {
		return err
	}
	for _, item := range snapshot.Items {
		address, err := kvstore.Decode[records.Address](item)
		if err != nil || address.Kind != records.KindEndpoint || address.Host != r.Host {
			continue
		}
		if err := r.ReleaseClaim(ctx, item); err != nil && !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return nil
}

// releaser deletes what a host had that is gone.
type releaser struct{ records.Records }
