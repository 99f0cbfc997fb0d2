package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// take does one step.
func (m *Mirror) take(ctx context.Context, local *engine, s step) error {
	switch s.kind {
	case adopt:
		return m.adopt(ctx, local, s)
	case remove:
		return m.remove(ctx, local, s)
	case settle:
		return m.settle(ctx, s.local.ID)
	case untie:
		return m.Forget(ctx, s.dockerID)
	case retie:
		return m.retie(ctx, s)
	default:
		return m.create(ctx, local, s.cluster)
	}
}

// remove asks the store again first: attachments and networks are followed
// apart, and that of a new network may come before the network itself.
func (m *Mirror) remove(ctx context.Context, local *engine, s step) error {
	_, err := m.Store.Get(ctx, records.NetworkKey(s.cluster.ID))
	if !errors.Is(err, kvstore.ErrNotFound) {
		return err
	}
	if err := local.remove(ctx, s.local.ID); err != nil {
		return fmt.Errorf("network %s is gone from the cluster and cannot be removed here: %w", s.local.Name, err)
	}
	m.Log.WithField("network", s.local.Name).Info("network is gone from the cluster and was removed here")
	return nil
}

func (m *Mirror) create(ctx context.Context, local *engine, cluster fabric.Network) error {
	networks, err := local.networks(ctx)
	if err != nil {
		return err
	}
	for _, other := range networks {
		if other.Name == cluster.Name {
			return fmt.Errorf("network %s of the cluster cannot be made here: the engine has another of that name (driver %s); rename or remove it", cluster.Name, other.Driver)
		}
	}
	_, err = m.Store.Get(ctx, records.NetworkKey(cluster.ID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil // being removed: what we follow is a little behind
	}
	if err != nil {
		return err
	}
	users, err := m.users(ctx, cluster.ID)
	if err != nil {
		return err
	}
	dockerID, err := local.create(ctx, cluster.Name, m.options(cluster))
	if err == nil {
		err = m.settle(ctx, dockerID)
	}
	if err != nil {
		return fmt.Errorf("network %s of the cluster cannot be made here: %w", cluster.Name, err)
	}
	m.mu.Lock()
	seen := m.seen[cluster.ID]
	m.mu.Unlock()
	log := m.Log.WithField("network", cluster.Name)
	if seen {
		reason := "the cluster has it still" // the removal was not recorded, or a host without a mirror has it
		if len(users) > 0 {
			reason = "in use on " + strings.Join(users, ", ")
		}
		log.Warn("network was removed here and put back: " + reason)
		return nil
	}
	log.Info("network of the cluster was made here")
	return nil
}

// settle notes that the engine has the network: from now on a delete is a user's.
func (m *Mirror) settle(ctx context.Context, dockerID string) error {
	return records.Records{Store: m.Store, Host: m.Host}.Settle(ctx, dockerID)
}

// users are the hosts that have endpoints on a network.
func (m *Mirror) users(ctx context.Context, id string) ([]string, error) {
	snapshot, err := m.Store.List(ctx, records.NetworkEndpoints(id))
	if err != nil {
		return nil, err
	}
	endpoints, _ := kvstore.DecodeAll[fabric.Endpoint](snapshot, records.NetworkEndpoints(id))
	return fabric.HostsOf(endpoints), nil
}

// options are those of "docker network create" that make the same network. The
// addresses come from causeway's IPAM: Docker's own would give them out twice.
func (m *Mirror) options(cluster fabric.Network) client.NetworkCreateOptions {
	options := client.NetworkCreateOptions{
		Driver:   m.Driver,
		Internal: cluster.Internal,
		Labels:   cluster.Labels,
		Options:  map[string]string{},
		IPAM:     &network.IPAM{Driver: m.Driver},
	}
	maps.Copy(options.Options, cluster.Options)
	options.Options[fabric.OptionNetwork] = fabric.NetworkIDPrefix + cluster.ID
	if cluster.IPAM.Driver != "default" {
		options.IPAM.Options = cluster.IPAM.Options
	}
	if slices.ContainsFunc(cluster.Subnets, func(s fabric.Subnet) bool { return records.InOwnSpace(s.Pool) }) {
		options.IPAM.Options = map[string]string{"network": cluster.ID} // its subnet overlaps another's
	}
	ipv4, ipv6 := false, cluster.IPv6
	for _, subnet := range cluster.Subnets {
		if subnet.Prefix.Addr().Is4() {
			ipv4 = true
		} else {
			ipv6 = true
		}
		config := network.IPAMConfig{Subnet: subnet.Prefix, IPRange: subnet.Range, AuxAddress: subnet.Aux}
		if subnet.GatewayGiven {
			config.Gateway = subnet.Gateway // else causeway's IPAM hands out the one that there is
		}
		options.IPAM.Config = append(options.IPAM.Config, config)
	}
	options.EnableIPv6 = &ipv6
	if !ipv4 {
		options.EnableIPv4 = &ipv4
	}
	return options
}
