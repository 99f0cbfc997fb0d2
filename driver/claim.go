package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// probe asks the wire about addresses that Docker's own allocator has picked;
// causeway's IPAM has asked by itself.
func (d *Driver) probe(ctx context.Context, found fabric.Network, endpoint fabric.Endpoint) error {
	if d.Probe == nil || found.Mode != fabric.ModeUnderlay {
		return nil
	}
	for _, address := range endpoint.Addrs {
		holder, taken, err := d.Probe(ctx, found, address.Addr())
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("address %s on network %s is in use by the machine %s on the wire: start the container with another --ip, or create the network with --ipam-driver causeway, which skips such addresses",
				address.Addr(), orID(found), holder)
		}
	}
	return nil
}

// putEndpoint is one transaction: the addresses are claimed and the endpoint is
// there, or neither. own says that Docker's own allocator gave the addresses.
func (d *Driver) putEndpoint(ctx context.Context, found fabric.Network, endpoint fabric.Endpoint, own bool) error {
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(records.NetworkKey(found.ID))},
		Then: []kvstore.Op{kvstore.Put(records.EndpointKey(found.ID, endpoint.ID), endpoint)},
	}
	for _, address := range endpoint.Addrs {
		if err := d.claim(ctx, found, endpoint, address.Addr(), own, &txn); err != nil {
			return err
		}
	}
	revision, err := d.Store.Commit(ctx, txn)
	if errors.Is(err, kvstore.ErrUnavailable) {
		// It may have been done all the same, and Docker sends no delete: once it
		// is in view it is found dead.
		go func() { _ = d.loop.watch(context.WithoutCancel(ctx), found.ID, 0) }()
	}
	if err != nil {
		return err
	}
	if err := d.loop.watch(ctx, found.ID, revision); err != nil {
		return errors.Join(err, d.loop.records.erase(context.WithoutCancel(ctx), found.ID, endpoint.ID, own))
	}
	return nil
}

// claim adds one address to the endpoint's transaction, or says who has it.
func (d *Driver) claim(ctx context.Context, found fabric.Network, endpoint fabric.Endpoint, addr netip.Addr, own bool, txn *kvstore.Txn) error {
	subnet, _ := subnetOf(found, addr)
	key := records.AddressKey(subnet.Pool, addr)
	taken := records.Address{Kind: records.KindEndpoint, Host: d.Host.Name, Endpoint: endpoint.ID, Name: endpoint.Name}
	holder, item, err := kvstore.Read[records.Address](ctx, d.Store, key)
	if errors.Is(err, kvstore.ErrNotFound) {
		txn.If = append(txn.If, kvstore.Missing(key))
		txn.Then = append(txn.Then, kvstore.Put(key, taken))
		return nil
	}
	if err != nil {
		return err
	}
	free, err := d.claimable(ctx, found, endpoint, holder, own)
	if err != nil {
		return err
	}
	if !free {
		remedy := "start the container with another --ip"
		if own {
			remedy += ", or create the network with --ipam-driver causeway"
		}
		return fmt.Errorf("address %s on network %s is in use %s: %s", addr, orID(found), holder.Holder(), remedy)
	}
	if taken.Name == "" && holder.Endpoint == "" {
		taken.Name = holder.Name
	}
	txn.If = append(txn.If, kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.Put(key, taken))
	if old := holder.Endpoint; old != "" && old != endpoint.ID {
		txn.Then = append(txn.Then, kvstore.Delete(records.EndpointKey(found.ID, old)))
	}
	return nil
}

// claimable says whether this host may put endpoint on an address that holder
// has: it rests, or it was requested for this very call, here or by swarm's
// leader, or its endpoint is gone. An engine that crashed tells no driver of its
// dead endpoints, and its own allocator gives their addresses out again.
func (d *Driver) claimable(ctx context.Context, found fabric.Network, endpoint fabric.Endpoint, holder records.Address, own bool) (bool, error) {
	switch {
	case holder.Kind == records.KindFree, holder.Kind == records.KindEndpoint && holder.Host == "":
		return true, nil
	case holder.Kind != records.KindEndpoint || holder.Host != d.Host.Name:
		return false, nil
	case holder.Endpoint == "" || holder.Endpoint == endpoint.ID:
		return true, nil
	}
	_, err := d.Store.Get(ctx, records.EndpointKey(found.ID, holder.Endpoint))
	if errors.Is(err, kvstore.ErrNotFound) {
		return true, nil
	}
	if err != nil || !own {
		return false, err
	}
	lives, err := d.loop.lives(ctx, found.ID, holder.Endpoint)
	return err == nil && !lives, err
}
