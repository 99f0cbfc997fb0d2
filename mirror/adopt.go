package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// adopt writes into the record what only the engine knows. A name that another
// network of the cluster has is not given twice: the network here is removed.
func (m *Mirror) adopt(ctx context.Context, s step) error {
	guard, free, err := m.mayName(ctx, s.local.Name, s.cluster.ID)
	if err != nil {
		return err
	}
	if !free {
		return m.makeRoom(ctx, s)
	}
	record, item, err := kvstore.Read[fabric.Network](ctx, m.Store, records.NetworkKey(s.cluster.ID))
	if err != nil || record.Name != "" {
		return err // adopted meanwhile
	}
	m.describe(&record, s.local)
	_, err = m.Store.Commit(ctx, kvstore.Txn{
		If: []kvstore.Guard{kvstore.Unchanged(item), guard},
		Then: []kvstore.Op{
			kvstore.Put(records.NetworkKey(record.ID), record),
			kvstore.Put(records.NameKey(record.Name), record.ID),
		},
	})
	if err != nil {
		return fmt.Errorf("network %s cannot be named in the cluster: %w", s.local.Name, err)
	}
	m.Log.WithField("network", record.Name).Info("network is known to the cluster by its name")
	return nil
}

// mayName says whether network id may have a name, and what must still hold when
// it takes it. The name of a network that is gone is free.
func (m *Mirror) mayName(ctx context.Context, name, id string) (guard kvstore.Guard, free bool, err error) {
	holder, item, err := kvstore.Read[string](ctx, m.Store, records.NameKey(name))
	if errors.Is(err, kvstore.ErrNotFound) {
		return kvstore.Missing(records.NameKey(name)), true, nil
	}
	if err != nil || holder == id {
		return kvstore.Unchanged(item), true, err
	}
	_, err = m.Store.Get(ctx, records.NetworkKey(holder))
	if errors.Is(err, kvstore.ErrNotFound) {
		return kvstore.Unchanged(item), true, nil
	}
	return guard, false, err
}

// describe adds to record what the engine shows of its network.
func (m *Mirror) describe(record *fabric.Network, local network.Network) {
	record.Name = local.Name
	record.Labels = local.Labels
	record.IPAM.Options = local.IPAM.Options
	for i := range record.Subnets {
		for _, config := range local.IPAM.Config {
			if config.Subnet.Masked() == record.Subnets[i].Prefix {
				record.Subnets[i].Range = config.IPRange
				record.Subnets[i].GatewayGiven = gatewayGiven(m.engine.api.ClientVersion(), config)
			}
		}
	}
}

// makeRoom removes a network of this engine whose name the cluster has given to
// another that was created elsewhere first; that one is created in its place.
func (m *Mirror) makeRoom(ctx context.Context, s step) error {
	n := s.local
	if s.cluster.Swarm {
		return fmt.Errorf("network %s of the swarm has the name of another network of the cluster, and is known here as %s", n.Name, s.cluster.ID)
	}
	if err := m.engine.remove(ctx, n.ID); err != nil {
		return fmt.Errorf("network %s (%.12s) has the name of another network of the cluster and cannot be removed here: %w", n.Name, n.ID, err)
	}
	m.Log.WithField("network", n.Name).Warnf("network %.12s was removed: another host created one of that name first, which takes its place", n.ID)
	return nil
}
