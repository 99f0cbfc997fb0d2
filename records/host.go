package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// RefusedError says why a host may not be in the cluster as it is.
type RefusedError struct{ reason string }

func (e *RefusedError) Error() string { return e.reason }

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// PutHost writes a host's record. It is refused, with a [RefusedError], while
// another host is alive that has its name or its VTEP, or a VTEP of the other address
// family: there could be no tunnel between the two. A host of its name with another
// VTEP may be this one before a restart: then its lease expires. ErrConflict says that
// the record changed meanwhile.
func PutHost(ctx context.Context, store kvstore.Store, host fabric.Host) error {
	if err := checkPeers(ctx, store, host); err != nil {
		return err
	}
	key := HostKey(host.Name)
	txn := kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, host)}}
	item, err := store.Get(ctx, key)
	switch {
	case errors.Is(err, kvstore.ErrNotFound):
		txn.If = append(txn.If, kvstore.Missing(key))
	case err != nil:
		return err
	default:
		txn.If = append(txn.If, kvstore.Unchanged(item))
		other, err := kvstore.Decode[fabric.Host](item)
		if err != nil || other.VTEP == host.VTEP {
			break
		}
		alive := AliveKey(host.Name)
		if _, err := store.Get(ctx, alive); err == nil {
			return refused("host name %s is in use by the host with VTEP %s: give --host-name", other.Shown(), other.VTEP)
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		txn.If = append(txn.If, kvstore.Missing(alive))
	}
	_, err = store.Commit(ctx, txn)
	return err
}

// checkPeers refuses a host whose VTEP a live host has, or whose VTEP is of another
// address family than a live host's.
func checkPeers(ctx context.Context, store kvstore.Store, host fabric.Host) error {
	hosts, err := store.List(ctx, HostsPrefix)
	if err != nil {
		return err
	}
	alive, err := store.List(ctx, AlivePrefix)
	if err != nil {
		return err
	}
	peers, _ := kvstore.DecodeAll[fabric.Host](hosts, HostsPrefix)
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		peer := peers[name]
		if _, lives := alive.Items[AliveKey(name)]; !lives || name == host.Name || CheckHost(name, peer) != nil {
			continue
		}
		if peer.VTEP == host.VTEP {
			return refused("VTEP %s is in use by host %s: give --vtep", host.VTEP, peer.Shown())
		}
		if peer.VTEP.Is4() != host.VTEP.Is4() {
			return refused("VTEP %s is an %s address and that of host %s (%s) is not: give all hosts a --vtep of one family",
				host.VTEP, familyOf(host.VTEP), peer.Shown(), peer.VTEP)
		}
	}
	return nil
}

func familyOf(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// CheckHost says what is wrong with the record of host name, which any host can
// have written; nil when it can be used. [fabric.CheckPeer] compares it with this
// host's.
func CheckHost(name string, host fabric.Host) error {
	const longest = 253 // a host name's (RFC 1035 §2.3.4)
	switch {
	case host.Name != name:
		return fmt.Errorf("record %.80s is of host %.80q", HostKey(name), host.Name)
	case len(name) > longest || len(host.Display) > longest || len(host.Version) > longest || len(host.BootID) > longest:
		return fmt.Errorf("record %.80s has a text of more than %d bytes", HostKey(name), longest)
	case host.CheckEnds() != nil:
		return fmt.Errorf("record %s: %w", HostKey(name), host.CheckEnds())
	case !host.VTEP.IsValid() || host.VTEP.IsUnspecified() || host.VTEP.IsMulticast():
		return fmt.Errorf("record %s has the VTEP %q, which is no host's address", HostKey(name), host.VTEP)
	}
	return nil
}

// RemoveHost releases a host that is not to come back by itself: its certificates
// are revoked. One that lives is refused, unless force says that it has to go: then
// it is cut off first.
func RemoveHost(ctx context.Context, store kvstore.Store, host string, force bool) (int, error) {
	if err := checkGone(ctx, store, host); err != nil && !force {
		return 0, err
	}
	if err := (Records{Store: store}).RevokeHost(ctx, host); err != nil {
		return 0, err
	}
	if force {
		if err := cutOff(ctx, store, host); err != nil {
			return 0, err
		}
	}
	return ReleaseHost(ctx, store, host)
}

// cutOff waits until a host whose certificates are revoked does not write any more.
func cutOff(ctx context.Context, store kvstore.Store, host string) error {
	const takes = time.Second // the members of the store cut its connections meanwhile
	for {
		if _, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Delete(AliveKey(host))}}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("host %s still writes to the store: %w", host, ctx.Err())
		case <-time.After(takes):
		}
		if _, err := store.Get(ctx, AliveKey(host)); errors.Is(err, kvstore.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// checkGone refuses a host that lives or is not known.
func checkGone(ctx context.Context, store kvstore.Store, host string) error {
	switch _, err := store.Get(ctx, AliveKey(host)); {
	case err == nil:
		return fmt.Errorf("host %s is alive: stop causeway there first, or cut it off with --force", host)
	case !errors.Is(err, kvstore.ErrNotFound):
		return err
	}
	if _, err := store.Get(ctx, HostKey(host)); err != nil {
		return fmt.Errorf("host %s: %w", host, err)
	}
	return nil
}

// ReleaseHost deletes all that a host which is gone had: its endpoints with their
// addresses, its claims, its attachments, and itself. It returns the number of
// endpoints. A host that lives is refused; one that is not known is
// [kvstore.ErrNotFound].
func ReleaseHost(ctx context.Context, store kvstore.Store, host string) (int, error) {
	alive := AliveKey(host)
	if err := checkGone(ctx, store, host); err != nil {
		return 0, err
	}
	gone := Records{Store: store, Host: host, While: []kvstore.Guard{kvstore.Missing(alive)}}
	endpoints, err := gone.releaseAll(ctx)
	if errors.Is(err, kvstore.ErrConflict) {
		if _, dead := store.Get(ctx, alive); dead == nil {
			return endpoints, fmt.Errorf("host %s came back meanwhile, and %d of its endpoints were released: restart their containers: %w", host, endpoints, err)
		}
	}
	return endpoints, err
}

// releaseAll deletes what the host had, its own record last: after a failure the next
// call finds the rest.
func (r Records) releaseAll(ctx context.Context) (int, error) {
	endpoints, err := r.deleteEndpoints(ctx)
	if err != nil {
		return endpoints, err
	}
	if err := r.releaseClaims(ctx); err != nil {
		return endpoints, err
	}
	if err := r.releasePools(ctx); err != nil {
		return endpoints, err
	}
	if err := r.ReleaseMembers(ctx); err != nil {
		return endpoints, err
	}
	txn := r.guarded()
	txn.Then = []kvstore.Op{kvstore.DeletePrefix(HostAttachments(r.Host)), kvstore.DeletePrefix(KeyAsks(r.Host)), kvstore.Delete(HostKey(r.Host))}
	_, err = r.Store.Commit(ctx, txn)
	return endpoints, err
}

// releasePools gives back the host's blocks of its networks' pools, and its uses.
func (r Records) releasePools(ctx context.Context) error {
	snapshot, err := r.Store.List(ctx, HostAttachments(r.Host))
	if err != nil {
		return err
	}
	for _, item := range snapshot.Items {
		attachment, err := kvstore.Decode[Attachment](item)
		if err != nil {
			continue
		}
		network, err := r.Network(ctx, attachment.Network)
		if errors.Is(err, kvstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		txn := r.guarded()
		for _, subnet := range network.Subnets {
			if err := r.releaseBlocks(ctx, subnet.Pool); err != nil {
				return err
			}
			txn.Then = append(txn.Then, kvstore.Delete(UserKey(subnet.Pool, r.Host)))
		}
		if _, err := r.Store.Commit(ctx, txn); err != nil {
			return err
		}
	}
	return nil
}

// deleteEndpoints deletes the host's endpoints on all networks, and counts them.
func (r Records) deleteEndpoints(ctx context.Context) (int, error) {
	snapshot, err := r.Store.List(ctx, EndpointsPrefix)
	if err != nil {
		return 0, err
	}
	deleted := 0
	for _, item := range snapshot.Items {
		endpoint, err := kvstore.Decode[fabric.Endpoint](item)
		if err != nil || endpoint.Host != r.Host {
			continue
		}
		if _, err := r.DeleteEndpoint(ctx, fabric.Network{ID: endpoint.Network}, endpoint.ID, true); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, nil
}

// releaseClaims releases what the host claimed for endpoints that never came.
func (r Records) releaseClaims(ctx context.Context) error {
	snapshot, err := r.Store.List(ctx, AddressesPrefix)
	if err != nil {
		return err
	}
	for _, item := range snapshot.Items {
		address, err := kvstore.Decode[Address](item)
		if err != nil || address.Kind != KindEndpoint || address.Host != r.Host {
			continue
		}
		if err := r.ReleaseClaim(ctx, item); err != nil && !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return nil
}
