package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

// adopt names a network in the cluster. A name that another network of the cluster has is
// not given twice: the network here is removed.
func (m *Mirror) adopt(ctx context.Context, s step) error {
	err := m.name(ctx, s.cluster.ID, s.local)
	if errors.Is(err, records.ErrNameTaken) {
		return m.yieldName(ctx, s)
	}
	return err
}

// name writes into the record what only the engine knows. The error is
// [records.ErrNameTaken] where another network has the name.
func (m *Mirror) name(ctx context.Context, id string, local network.Network) error {
	named, err := m.records().NameNetwork(ctx, id, local.Name, func(record *fabric.Network) {
		m.describe(record, local)
	})
	if err != nil {
		return fmt.Errorf("network %s cannot be named in the cluster: %w", local.Name, err)
	}
	if named {
		m.Log.WithField("network", local.Name).Info("network is known to the cluster by its name")
	}
	return nil
}

// describe adds to record what the engine shows of its network.
func (m *Mirror) describe(record *fabric.Network, local network.Network) {
	record.Labels = local.Labels
	record.IPAM.Options = local.IPAM.Options
	for i := range record.Subnets {
		for _, config := range local.IPAM.Config {
			if config.Subnet.Masked() == record.Subnets[i].Prefix {
				record.Subnets[i].Range = config.IPRange
				record.Subnets[i].GatewayGiven = m.engine.GatewayGiven(config)
			}
		}
	}
}

// yieldName removes a network of this engine whose name the cluster has given to
// another that was created elsewhere first; that one is created in its place. One
// that containers are on is reported: they reach no other host.
func (m *Mirror) yieldName(ctx context.Context, s step) error {
	n := s.local
	if s.cluster.Swarm {
		return fmt.Errorf("network %s of the swarm has the name of another network of the cluster, and is known here as %s", n.Name, s.cluster.ID)
	}
	err := m.engine.Remove(ctx, n.ID)
	if err == nil {
		m.Log.WithField("network", n.Name).Warnf("network %.12s was removed: another host created one of that name first, which takes its place", n.ID)
		return nil
	}
	named, findErr := m.records().NetworkNamed(ctx, n.Name)
	if findErr != nil {
		return errors.Join(err, findErr)
	}
	return fmt.Errorf("network %s here (%.12s, subnet %s) is not the cluster's network of that name, which has subnet %s, and cannot be removed: remove its containers and create them again: %w",
		n.Name, n.ID, subnetsOf(s.cluster), subnetsOf(named), err)
}

// subnetsOf lists a network's subnets for a message.
func subnetsOf(cluster fabric.Network) string {
	var subnets []string
	for _, subnet := range cluster.Subnets {
		subnets = append(subnets, subnet.Prefix.String())
	}
	return strings.Join(subnets, ", ")
}
