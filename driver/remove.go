package driver

import (
	"context"
	"errors"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// deleteNetwork unties Docker's network, and removes the cluster's with it when
// no endpoint is on it and no host without a mirror has it: the mirrors follow.
// An engine that could not finish what its mirror asked for removes nothing but
// its own. An unknown network is a success: Docker sends deletes for networks
// that we never saw.
func (d *Driver) deleteNetwork(ctx context.Context, dockerID string) error {
	for range tries {
		err := d.untie(ctx, dockerID)
		if !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return kvstore.ErrConflict
}

func (d *Driver) untie(ctx context.Context, dockerID string) error {
	key := kvstore.AttachmentKey(d.Host.Name, dockerID)
	item, err := d.Store.Get(ctx, key)
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	attachment, err := kvstore.Decode[kvstore.Attachment](item)
	if err != nil {
		return err
	}
	txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Delete(key)}}
	network, err := d.networkByID(ctx, attachment.Network)
	if err == nil && !attachment.Pending {
		err = d.lastOne(ctx, key, network, &txn)
	}
	if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
		return err
	}
	_, err = d.Store.Commit(ctx, txn)
	return err
}

// lastOne adds the removal of the network itself to the transaction when no
// endpoint is on it, and no host has it whose mirror would not notice.
func (d *Driver) lastOne(ctx context.Context, key string, network fabric.Network, txn *kvstore.Txn) error {
	endpoints, err := d.Store.List(ctx, kvstore.NetworkEndpoints(network.ID))
	if err != nil || len(endpoints.Items) > 0 {
		return err
	}
	txn.If = append(txn.If, kvstore.NoneNewer(kvstore.NetworkEndpoints(network.ID), endpoints.Revision))
	hosts, err := d.Store.List(ctx, kvstore.HostsPrefix)
	if err != nil {
		return err
	}
	for _, item := range hosts.Items {
		host, err := kvstore.Decode[fabric.Host](item)
		if err != nil || host.Mirror {
			continue
		}
		prefix := kvstore.HostAttachments(host.Name)
		attachments, err := d.Store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for other, item := range attachments.Items {
			attachment, err := kvstore.Decode[kvstore.Attachment](item)
			if err == nil && other != key && attachment.Network == network.ID {
				txn.If = txn.If[:1] // it stays, and so the attachment is all there is to rely on
				return nil
			}
		}
		txn.If = append(txn.If, kvstore.NoneNewer(prefix, attachments.Revision))
	}
	txn.Then = append(txn.Then, removal(network)...)
	return nil
}

// removal erases all records of a network.
func removal(network fabric.Network) []kvstore.Op {
	ops := []kvstore.Op{
		kvstore.DeletePrefix(kvstore.NetworkEndpoints(network.ID)),
		kvstore.Delete(kvstore.NetworkKey(network.ID)),
	}
	if network.Name != "" {
		ops = append(ops, kvstore.Delete(kvstore.NameKey(network.Name)))
	}
	if network.VNI != 0 {
		ops = append(ops, kvstore.Delete(kvstore.VNIKey(network.VNI)))
	}
	for _, subnet := range network.Subnets {
		ops = append(ops, kvstore.Delete(kvstore.PoolKey(subnet.Pool)), kvstore.DeletePrefix(kvstore.PoolAddresses(subnet.Pool)))
	}
	return ops
}

func (d *Driver) networkByID(ctx context.Context, id string) (fabric.Network, error) {
	item, err := d.Store.Get(ctx, kvstore.NetworkKey(id))
	if err != nil {
		return fabric.Network{}, err
	}
	return kvstore.Decode[fabric.Network](item)
}
