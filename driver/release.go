package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	gone := recordWriter{store: store, host: host, while: []kvstore.Guard{kvstore.Missing(records.AliveKey(host))}}
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
func (r recordWriter) releaseAll(ctx context.Context) (int, error) {
	erased, err := r.eraseAll(ctx)
	if err != nil {
		return erased, err
	}
	if err := r.freeAll(ctx); err != nil {
		return erased, err
	}
	_, err = r.store.Commit(ctx, kvstore.Txn{
		If: r.while,
		Then: []kvstore.Op{
			kvstore.DeletePrefix(records.HostAttachments(r.host)),
			kvstore.Delete(records.HostKey(r.host)),
		},
	})
	return erased, err
}

// eraseAll erases the host's endpoints on all networks, and counts them.
func (r recordWriter) eraseAll(ctx context.Context) (int, error) {
	snapshot, err := r.store.List(ctx, records.EndpointsPrefix)
	if err != nil {
		return 0, err
	}
	erased := 0
	for _, item := range snapshot.Items {
		endpoint, err := kvstore.Decode[fabric.Endpoint](item)
		if err != nil || endpoint.Host != r.host {
			continue
		}
		if err := r.erase(ctx, endpoint.Network, endpoint.ID, true); err != nil {
			return erased, err
		}
		erased++
	}
	return erased, nil
}

// freeAll frees what the host claimed for endpoints that never came.
func (r recordWriter) freeAll(ctx context.Context) error {
	snapshot, err := r.store.List(ctx, records.AddressesPrefix)
	if err != nil {
		return err
	}
	for _, item := range snapshot.Items {
		address, err := kvstore.Decode[records.Address](item)
		if err != nil || address.Kind != records.KindEndpoint || address.Host != r.host {
			continue
		}
		if err := r.free(ctx, item); err != nil && !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return nil
}

// free lets a claimed address rest, unless it changed since item was read.
func (r recordWriter) free(ctx context.Context, item kvstore.Item) error {
	_, err := r.store.Commit(ctx, kvstore.Txn{
		If:   append(slices.Clone(r.while), kvstore.Unchanged(item)),
		Then: []kvstore.Op{kvstore.Put(item.Key, records.Freed(time.Now()))},
	})
	return err
}
