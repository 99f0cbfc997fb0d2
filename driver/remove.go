package driver

import (
	"context"
	"errors"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Forget unties a network that the engine has lost. One that swarm brought goes
// with its last host; another is the mirror's to make again.
func (d *Driver) Forget(ctx context.Context, dockerID string) error {
	if ofSwarm(dockerID) {
		return d.deleteNetwork(ctx, dockerID)
	}
	key := kvstore.AttachmentKey(d.Host.Name, dockerID)
	_, err := d.Store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Delete(key)}})
	return err
}

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
	found, err := d.networkByID(ctx, attachment.Network)
	if err == nil && !attachment.Pending && !d.leadersToFree(dockerID) {
		err = d.lastOne(ctx, dockerID, found, &txn)
	}
	if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
		return err
	}
	_, err = d.Store.Commit(ctx, txn)
	return err
}

// ofSwarm says that swarm made a network: it has one ID on all nodes, which is
// shorter than an engine's own.
func ofSwarm(dockerID string) bool { return len(dockerID) != 64 }

// leadersToFree says that a network is there until swarm's leader frees it: the
// nodes have it only while a task of theirs is on it.
func (d *Driver) leadersToFree(dockerID string) bool {
	return d.Scope == network.GlobalScope && ofSwarm(dockerID)
}

// freeNetwork removes a swarm's network, with what a node that crashed left of
// it. An unknown one is a success.
func (d *Driver) freeNetwork(ctx context.Context, dockerID string) error {
	found, err := d.networkByID(ctx, networkID(dockerID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	snapshot, err := d.Store.List(ctx, kvstore.AttachmentsPrefix)
	if err != nil {
		return err
	}
	then := removal(found)
	for key := range snapshot.Items {
		if strings.HasSuffix(key, "/"+dockerID) {
			then = append(then, kvstore.Delete(key))
		}
	}
	_, err = d.Store.Commit(ctx, kvstore.Txn{Then: then})
	return err
}

// lastOne adds the removal of the network itself to the transaction when no
// endpoint is on it, and no host has it whose mirror would not notice: none does
// for a network that swarm spreads.
func (d *Driver) lastOne(ctx context.Context, dockerID string, network fabric.Network, txn *kvstore.Txn) error {
	key := kvstore.AttachmentKey(d.Host.Name, dockerID)
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
		if err != nil || host.Mirror && !network.Swarm {
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
