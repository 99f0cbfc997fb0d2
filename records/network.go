package records

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// FirstVNI is the first that networks get by themselves: clear of Swarm's (4096…).
const FirstVNI = 0x800000

// Network reads the network of an ID.
func (r Records) Network(ctx context.Context, id string) (fabric.Network, error) {
	network, _, err := kvstore.Read[fabric.Network](ctx, r.Store, NetworkKey(id))
	return network, err
}

// NetworkNamed reads the network of a name.
func (r Records) NetworkNamed(ctx context.Context, name string) (fabric.Network, error) {
	id, _, err := kvstore.Read[string](ctx, r.Store, NameKey(name))
	if err != nil {
		return fabric.Network{}, err
	}
	return r.Network(ctx, id)
}

// networkName is for messages about a network that another record names.
func (r Records) networkName(ctx context.Context, id string) string {
	if id == "" {
		return "that is not causeway's"
	}
	network, err := r.Network(ctx, id)
	if err != nil {
		return id
	}
	return network.Label()
}

// CreateNetwork records a network that is new to the cluster, and attaches this
// host's Docker network dockerID to it. A tunnelled network gets the VNI that it
// asks for, or the lowest that is free. check sees the network before it is
// written. ErrConflict says that another network was created or named meanwhile.
func (r Records) CreateNetwork(ctx context.Context, network fabric.Network, a Attaching, check func(fabric.Network) error) error {
	a.Network = network.ID
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Missing(NetworkKey(network.ID))},
		Then: []kvstore.Op{kvstore.Put(AttachmentKey(r.Host, a.DockerID), a.Attachment)},
	}
	if err := r.join(ctx, network.ID, a.Mirror, &txn); err != nil {
		return err
	}
	if network.Name != "" {
		txn.If = append(txn.If, kvstore.Missing(NameKey(network.Name)))
		txn.Then = append(txn.Then, kvstore.Put(NameKey(network.Name), network.ID))
	}
	if network.Mode != fabric.ModeUnderlay {
		if err := r.takeVNI(ctx, &network, &txn); err != nil {
			return err
		}
	}
	if err := check(network); err != nil {
		return err
	}
	if err := r.BindPools(ctx, &network, a.DockerIPAM, &txn); err != nil {
		return err
	}
	txn.Then = append(txn.Then, kvstore.Put(NetworkKey(network.ID), network))
	_, err := r.Store.Commit(ctx, txn)
	return err
}

// takeVNI adds the user's VNI, or else the lowest free of ours, to txn.
func (r Records) takeVNI(ctx context.Context, network *fabric.Network, txn *kvstore.Txn) error {
	taken, err := r.Store.List(ctx, VNIsPrefix)
	if err != nil {
		return err
	}
	holder, clash := taken.Items[VNIKey(network.VNI)]
	switch {
	case network.VNI == 0:
		for network.VNI = FirstVNI; ; network.VNI++ {
			if _, ok := taken.Items[VNIKey(network.VNI)]; !ok {
				break
			}
		}
	case clash:
		id, _ := kvstore.Decode[string](holder)
		return fmt.Errorf("vni %d is taken by network %s", network.VNI, r.networkName(ctx, id))
	}
	txn.If = append(txn.If, kvstore.Missing(VNIKey(network.VNI)))
	txn.Then = append(txn.Then, kvstore.Put(VNIKey(network.VNI), network.ID))
	return nil
}

// DeleteSwarmNetwork deletes a network that swarm's leader frees, with what a
// node that crashed left of it. An unknown one is a success.
func (r Records) DeleteSwarmNetwork(ctx context.Context, id string) error {
	return kvstore.Retry(ctx, "network "+id, func() error {
		item, err := r.Store.Get(ctx, NetworkKey(id))
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return r.deleteNetwork(ctx, item, kvstore.Txn{})
	})
}

// DeleteNetwork deletes the network of a name or an ID that no engine will
// remove: its swarm was dissolved, or its hosts are gone. Mirrors remove it where
// an engine has it still. One with endpoints is refused and their hosts are
// named; one that is not known is [kvstore.ErrNotFound].
func (r Records) DeleteNetwork(ctx context.Context, name string) error {
	id, _, err := kvstore.Read[string](ctx, r.Store, NameKey(name))
	if errors.Is(err, kvstore.ErrNotFound) {
		id, err = name, nil
	}
	if err != nil {
		return err
	}
	return kvstore.Retry(ctx, "network "+name, func() error {
		item, err := r.Store.Get(ctx, NetworkKey(id))
		if err != nil {
			return fmt.Errorf("network %s: %w", name, err)
		}
		snapshot, err := r.Store.List(ctx, NetworkEndpoints(id))
		if err != nil {
			return err
		}
		endpoints, err := kvstore.DecodeAll[fabric.Endpoint](snapshot, NetworkEndpoints(id))
		if err != nil {
			return err
		}
		if users := fabric.HostsOf(endpoints); len(users) > 0 {
			return fmt.Errorf("network %s has endpoints on %s: remove their containers, or the hosts with \"causeway hosts rm\"", name, strings.Join(users, ", "))
		}
		return r.deleteNetwork(ctx, item, kvstore.Txn{If: []kvstore.Guard{kvstore.NoneNewer(NetworkEndpoints(id), snapshot.Revision)}})
	})
}

// deleteNetwork deletes a network and, if it is a swarm's, the attachments of all
// nodes, while the guards of txn hold.
func (r Records) deleteNetwork(ctx context.Context, item kvstore.Item, txn kvstore.Txn) error {
	if err := removal(item, &txn); err != nil {
		return err
	}
	snapshot, err := r.Store.List(ctx, AttachmentsPrefix)
	if err != nil {
		return err
	}
	for key := range snapshot.Items {
		if strings.HasSuffix(key, "/"+strings.TrimPrefix(item.Key, NetworksPrefix)) {
			txn.Then = append(txn.Then, kvstore.Delete(key))
		}
	}
	_, err = r.Store.Commit(ctx, txn)
	return err
}

// removal adds to txn that all records of a network are deleted, if it still has
// the name that item says: a mirror may be giving it one.
func removal(item kvstore.Item, txn *kvstore.Txn) error {
	network, err := kvstore.Decode[fabric.Network](item)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.DeletePrefix(NetworkEndpoints(network.ID)), kvstore.DeletePrefix(NetworkMembers(network.ID)), kvstore.Delete(item.Key))
	if network.Name != "" {
		txn.Then = append(txn.Then, kvstore.Delete(NameKey(network.Name)))
	}
	if network.VNI != 0 {
		txn.Then = append(txn.Then, kvstore.Delete(VNIKey(network.VNI)))
	}
	for _, subnet := range network.Subnets {
		txn.Then = append(txn.Then, kvstore.Delete(PoolKey(subnet.Pool)), kvstore.DeletePrefix(PoolAddresses(subnet.Pool)))
	}
	return nil
}
