package records

import (
	"context"
	"errors"
	"net/netip"

	"github.com/causeway-net/causeway/kvstore"
)

// ReleaseAddress quarantines an address that this host asked for and that no
// endpoint has. Gateways and aux addresses are deleted with their pool; an
// unknown address is a success.
func (c *Claimer) ReleaseAddress(ctx context.Context, id string, addr netip.Addr, global bool) error {
	err := kvstore.Retry(ctx, "address "+addr.String(), func() error {
		holder, item, err := kvstore.Read[Address](ctx, c.Store, AddressKey(id, addr))
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		ours := holder.Host == c.Host || global && holder.Host == ""
		if holder.Kind != KindEndpoint || !ours {
			return nil
		}
		pool, err := c.Pool(ctx, id)
		if errors.Is(err, ErrNoPool) {
			return nil
		}
		if err != nil {
			return err
		}
		if bound, err := c.bound(ctx, pool, holder); bound || err != nil {
			return err
		}
		return c.ReleaseClaim(ctx, item)
	})
	if err == nil {
		c.Freed(id, addr)
	}
	return err
}

// ReleasePool ends a use that this host has of a pool: see [Records.ReleasePool].
func (c *Claimer) ReleasePool(ctx context.Context, id string, global bool) error {
	c.forget(id)
	return c.Records.ReleasePool(ctx, id, global)
}
