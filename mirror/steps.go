package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// take takes one step.
func (m *Mirror) take(ctx context.Context, p *pass, s step) error {
	switch s.kind {
	case adopt:
		return m.adopt(ctx, s)
	case remove:
		return m.remove(ctx, s)
	case settle:
		return m.records().Settle(ctx, s.local.ID)
	case detach:
		return m.detach(ctx, s.dockerID)
	case reattach:
		return m.reattach(ctx, p, s)
	case putBack:
		return m.putBack(ctx, s.cluster)
	default:
		dockerID, err := m.create(ctx, s.cluster)
		if dockerID != "" {
			m.Log.WithField("network", s.cluster.Name).Info("network of the cluster was created here")
		}
		return err
	}
}

// remove asks the store again first: attachments and networks are followed
// apart, and the attachment of a new network may come before the network.
func (m *Mirror) remove(ctx context.Context, s step) error {
	_, err := m.Store.Get(ctx, records.NetworkKey(s.cluster.ID))
	if !errors.Is(err, kvstore.ErrNotFound) {
		return err
	}
	if err := m.engine.Remove(ctx, s.local.ID); err != nil {
		return fmt.Errorf("network %s is gone from the cluster and cannot be removed here: %w", s.local.Name, err)
	}
	m.Log.WithField("network", s.local.Name).Info("network is gone from the cluster and was removed here")
	return nil
}

// detach deletes the attachment of a network that the engine no longer has. If a
// user removed it, the driver could not reach the store at that time.
func (m *Mirror) detach(ctx context.Context, dockerID string) error {
	attachment, _, err := kvstore.Read[records.Attachment](ctx, m.Store, records.AttachmentKey(m.Host, dockerID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil // the driver did it
	}
	if err != nil {
		return err
	}
	if m.putBacks.destroyed(dockerID) {
		m.putBacks.add(dockerID, attachment.Network, true)
	}
	return m.records().ForgetLost(ctx, dockerID)
}

// reattach attaches a network of the engine to the cluster's again. Its running
// containers may have lost their endpoints.
func (m *Mirror) reattach(ctx context.Context, p *pass, s step) error {
	attached, err := m.records().Reattach(ctx, s.cluster.ID, records.Attaching{
		DockerID: s.local.ID, Mirror: true, Attachment: records.Attachment{DockerIPAM: s.local.IPAM.Driver == "default"},
	})
	if err != nil {
		return fmt.Errorf("network %s cannot be attached to the cluster's again: %w", s.local.Name, err)
	}
	if attached {
		p.displaced.check(s.local.ID)
		m.Log.WithField("network", s.local.Name).Warn("network had lost its attachment, as of a host that was released; it is attached again")
	}
	return nil
}

// create creates a network of the cluster in the engine, and returns its ID there;
// "" when it is being removed.
func (m *Mirror) create(ctx context.Context, cluster fabric.Network) (dockerID string, err error) {
	networks, err := m.engine.Networks(ctx)
	if err != nil {
		return "", err
	}
	for _, other := range networks {
		if other.Name == cluster.Name {
			return "", fmt.Errorf("network %s of the cluster cannot be created here: the engine has another of that name (driver %s); rename or remove it", cluster.Name, other.Driver)
		}
	}
	_, err = m.Store.Get(ctx, records.NetworkKey(cluster.ID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return "", nil // being removed: the table is a little behind
	}
	if err != nil {
		return "", err
	}
	space, err := m.space(ctx, cluster)
	if err != nil {
		return "", err
	}
	dockerID, err = m.engine.Create(ctx, cluster.Name, m.options(cluster, space))
	if err == nil {
		err = m.records().Settle(ctx, dockerID)
	}
	if err != nil {
		return "", fmt.Errorf("network %s of the cluster cannot be created here: %w", cluster.Name, err)
	}
	return dockerID, nil
}

// space is the address space of a network's pools.
func (m *Mirror) space(ctx context.Context, cluster fabric.Network) (string, error) {
	if len(cluster.Subnets) == 0 {
		return records.DefaultSpace, nil
	}
	pool, _, err := kvstore.Read[records.Pool](ctx, m.Store, records.PoolKey(cluster.Subnets[0].Pool))
	if errors.Is(err, kvstore.ErrNotFound) {
		return records.DefaultSpace, nil
	}
	return pool.Space, err
}

// options are those of "docker network create" that create the same network. The
// addresses come from causeway's IPAM, because Docker's IPAM would give them out
// twice; its pools are in space.
func (m *Mirror) options(cluster fabric.Network, space string) client.NetworkCreateOptions {
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
		options.IPAM.Options = maps.Clone(cluster.IPAM.Options)
	}
	if space != records.DefaultSpace && options.IPAM.Options["space"] != space {
		options.IPAM.Options = map[string]string{"space": space}
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
			config.Gateway = subnet.Gateway // else causeway's IPAM gives the one that the pool has
		}
		options.IPAM.Config = append(options.IPAM.Config, config)
	}
	options.EnableIPv6 = &ipv6
	if !ipv4 {
		options.EnableIPv4 = &ipv4
	}
	return options
}
