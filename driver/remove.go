package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Forget unties a network that the engine has lost. One that no mirror makes
// again goes with its last host: swarm's, and one that nobody learnt the name of
// because the engine died while it was made.
func (d *Driver) Forget(ctx context.Context, dockerID string) error {
	found, _, err := d.attached(ctx, dockerID)
	if errors.Is(err, kvstore.ErrUnavailable) {
		return err
	}
	if err == nil && (found.Swarm || found.Name == "") {
		return d.deleteNetwork(ctx, dockerID)
	}
	key := records.AttachmentKey(d.Host.Name, dockerID)
	_, err = d.Store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Delete(key)}})
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
	key := records.AttachmentKey(d.Host.Name, dockerID)
	attachment, item, err := kvstore.Read[records.Attachment](ctx, d.Store, key)
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Delete(key)}}
	found, err := d.Store.Get(ctx, records.NetworkKey(attachment.Network))
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
	item, err := d.Store.Get(ctx, records.NetworkKey(networkID(dockerID)))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return eraseNetwork(ctx, d.Store, item, kvstore.Txn{})
}

// eraseNetwork erases a network and, if it is a swarm's, the ties of all nodes
// to it, while the guards of txn hold.
func eraseNetwork(ctx context.Context, store kvstore.Store, item kvstore.Item, txn kvstore.Txn) error {
	if err := removal(item, &txn); err != nil {
		return err
	}
	snapshot, err := store.List(ctx, records.AttachmentsPrefix)
	if err != nil {
		return err
	}
	for key := range snapshot.Items {
		if strings.HasSuffix(key, "/"+strings.TrimPrefix(item.Key, records.NetworksPrefix)) {
			txn.Then = append(txn.Then, kvstore.Delete(key))
		}
	}
	_, err = store.Commit(ctx, txn)
	return err
}

// RemoveNetwork erases the network of a name or an ID that no engine will
// remove: its swarm was dissolved, or its hosts are gone. Mirrors remove it where
// an engine has it still. One with endpoints is refused and their hosts are
// named; one that is not known is [kvstore.ErrNotFound].
func RemoveNetwork(ctx context.Context, store kvstore.Store, name string) error {
	id, _, err := kvstore.Read[string](ctx, store, records.NameKey(name))
	if errors.Is(err, kvstore.ErrNotFound) {
		id, err = name, nil
	}
	if err != nil {
		return err
	}
	item, err := store.Get(ctx, records.NetworkKey(id))
	if err != nil {
		return fmt.Errorf("network %s: %w", name, err)
	}
	snapshot, err := store.List(ctx, records.NetworkEndpoints(id))
	if err != nil {
		return err
	}
	endpoints, err := kvstore.DecodeAll[fabric.Endpoint](snapshot, records.NetworkEndpoints(id))
	if err != nil {
		return err
	}
	if users := fabric.HostsOf(endpoints); len(users) > 0 {
		return fmt.Errorf("network %s has endpoints on %s: remove their containers, or the hosts with \"causeway hosts rm\"", name, strings.Join(users, ", "))
	}
	return eraseNetwork(ctx, store, item, kvstore.Txn{If: []kvstore.Guard{kvstore.NoneNewer(records.NetworkEndpoints(id), snapshot.Revision)}})
}

// lastOne adds the removal of the network itself to the transaction when no
// endpoint is on it, and no host has it whose mirror would not notice: none does
// for a network that swarm spreads.
func (d *Driver) lastOne(ctx context.Context, dockerID string, item kvstore.Item, txn *kvstore.Txn) error {
	key := records.AttachmentKey(d.Host.Name, dockerID)
	network, err := kvstore.Decode[fabric.Network](item)
	if err != nil {
		return err
	}
	endpoints, err := d.Store.List(ctx, records.NetworkEndpoints(network.ID))
	if err != nil || len(endpoints.Items) > 0 {
		return err
	}
	txn.If = append(txn.If, kvstore.NoneNewer(records.NetworkEndpoints(network.ID), endpoints.Revision))
	hosts, err := d.Store.List(ctx, records.HostsPrefix)
	if err != nil {
		return err
	}
	for _, item := range hosts.Items {
		host, err := kvstore.Decode[fabric.Host](item)
		if err != nil || host.Mirror && !network.Swarm {
			continue
		}
		prefix := records.HostAttachments(host.Name)
		attachments, err := d.Store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for other, item := range attachments.Items {
			attachment, err := kvstore.Decode[records.Attachment](item)
			if err == nil && other != key && attachment.Network == network.ID {
				txn.If = txn.If[:1] // it stays, and so the attachment is all there is to rely on
				return nil
			}
		}
		txn.If = append(txn.If, kvstore.NoneNewer(prefix, attachments.Revision))
	}
	return removal(item, txn)
}

// removal adds to txn that all records of a network are erased, if it still has
// the name that item says: a mirror may be giving it one.
func removal(item kvstore.Item, txn *kvstore.Txn) error {
	network, err := kvstore.Decode[fabric.Network](item)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.DeletePrefix(records.NetworkEndpoints(network.ID)), kvstore.Delete(item.Key))
	if network.Name != "" {
		txn.Then = append(txn.Then, kvstore.Delete(records.NameKey(network.Name)))
	}
	if network.VNI != 0 {
		txn.Then = append(txn.Then, kvstore.Delete(records.VNIKey(network.VNI)))
	}
	for _, subnet := range network.Subnets {
		txn.Then = append(txn.Then, kvstore.Delete(records.PoolKey(subnet.Pool)), kvstore.DeletePrefix(records.PoolAddresses(subnet.Pool)))
	}
	return nil
}

func (d *Driver) networkByID(ctx context.Context, id string) (fabric.Network, error) {
	found, _, err := kvstore.Read[fabric.Network](ctx, d.Store, records.NetworkKey(id))
	return found, err
}
