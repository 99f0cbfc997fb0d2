package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// FirstVNI is the first that networks get by themselves: clear of Swarm's (4096…).
const FirstVNI = 0x800000

// What a network may have at most, so that its creation and its deletion are one
// transaction each: an etcd takes 128 writes in one unless told otherwise.
const (
	MaxSubnets = 30
	MaxAux     = 48 // aux addresses, of all subnets

	maxWrites = 100 // in one transaction of a batch
)

// checkSize refuses a network that is too large to be created in one transaction.
func checkSize(network fabric.Network) error {
	aux := 0
	for _, subnet := range network.Subnets {
		aux += len(subnet.Aux)
	}
	switch {
	case len(network.Subnets) > MaxSubnets:
		return fmt.Errorf("the network has %d subnets, and may have %d: create several networks", len(network.Subnets), MaxSubnets)
	case aux > MaxAux:
		return fmt.Errorf("the network has %d aux addresses, and may have %d: leave a part of the subnet out with --ip-range", aux, MaxAux)
	}
	return nil
}

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
	if err := checkSize(network); err != nil {
		return err
	}
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
	if network.Mode.HasVNI() {
		if err := r.takeVNI(ctx, &network, &txn); err != nil {
			return r.ifStill(ctx, txn, err)
		}
	}
	if err := check(network); err != nil {
		return err
	}
	if err := r.BindPools(ctx, &network, a.DockerIPAM, &txn); err != nil {
		return r.ifStill(ctx, txn, err)
	}
	txn.Then = append(txn.Then, kvstore.Put(NetworkKey(network.ID), network))
	_, err := r.Store.Commit(ctx, txn)
	return err
}

// ifStill returns err while the guards of txn hold. Where they do not, what err
// complains of may be this very network, as another host has just created it:
// then it is ErrConflict.
func (r Records) ifStill(ctx context.Context, txn kvstore.Txn, err error) error {
	if _, changed := r.Store.Commit(ctx, kvstore.Txn{If: txn.If}); errors.Is(changed, kvstore.ErrConflict) {
		return changed
	}
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

// deleteNetwork deletes all records of the network of item in one transaction,
// with what txn does, while its guards hold and the record is unchanged: a mirror
// may be giving it a name. A swarm's nodes lose their attachments to it after.
func (r Records) deleteNetwork(ctx context.Context, item kvstore.Item, txn kvstore.Txn) error {
	network, err := kvstore.Decode[fabric.Network](item)
	if err != nil {
		return err
	}
	members, err := r.Store.List(ctx, NetworkMembers(network.ID))
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.Unchanged(item))
	subnets := network.Subnets
	for len(subnets) > MaxSubnets { // an older version created it
		batch := min(len(subnets)-MaxSubnets, maxWrites/4)
		if _, err := r.Store.Commit(ctx, kvstore.Txn{If: txn.If, Then: deletePools(subnets[:batch])}); err != nil {
			return err
		}
		subnets = subnets[batch:]
	}
	txn.Then = append(txn.Then, kvstore.Delete(item.Key),
		kvstore.DeletePrefix(NetworkEndpoints(network.ID)), kvstore.DeletePrefix(NetworkMembers(network.ID)))
	txn.Then = append(txn.Then, deletePools(subnets)...)
	if network.Name != "" {
		txn.Then = append(txn.Then, kvstore.Delete(NameKey(network.Name)))
	}
	if network.VNI != 0 {
		txn.Then = append(txn.Then, kvstore.Delete(VNIKey(network.VNI)))
	}
	if _, err = r.Store.Commit(ctx, txn); err != nil || !network.Swarm {
		return err
	}
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(members.Items)), maxWrites) {
		var then []kvstore.Op
		for _, key := range batch { // the network has one ID on all nodes
			then = append(then, kvstore.Delete(AttachmentKey(key[len(NetworkMembers(network.ID)):], network.ID)))
		}
		if _, err := r.Store.Commit(ctx, kvstore.Txn{Then: then}); err != nil {
			return err
		}
	}
	return nil
}

func deletePools(subnets []fabric.Subnet) []kvstore.Op {
	var ops []kvstore.Op
	for _, subnet := range subnets {
		ops = append(ops, deletePool(subnet.Pool)...)
	}
	return ops
}

// deletePool deletes all records of a pool.
func deletePool(id string) []kvstore.Op {
	return []kvstore.Op{
		kvstore.Delete(PoolKey(id)), kvstore.DeletePrefix(PoolAddresses(id)),
		kvstore.DeletePrefix(PoolBlocks(id)), kvstore.DeletePrefix(PoolUsers(id)),
	}
}
