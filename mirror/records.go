package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func (m *Mirror) records() records.Records {
	return records.Records{Store: m.Store, Host: m.Host}
}

// users are the hosts that use a network: they have endpoints on it, containers
// that are configured for it, or no mirror that would remove it.
func (m *Mirror) users(ctx context.Context, cluster fabric.Network) ([]string, error) {
	users := make(map[string]bool)
	snapshot, err := m.Store.List(ctx, records.NetworkEndpoints(cluster.ID))
	if err != nil {
		return nil, err
	}
	endpoints, _ := kvstore.DecodeAll[fabric.Endpoint](snapshot, records.NetworkEndpoints(cluster.ID))
	for _, host := range fabric.HostsOf(endpoints) {
		users[host] = true
	}
	if snapshot, err = m.Store.List(ctx, records.NetworkMembers(cluster.ID)); err != nil {
		return nil, err
	}
	members, _ := kvstore.DecodeAll[records.Member](snapshot, records.NetworkMembers(cluster.ID))
	for host, member := range members {
		if member.Configured > 0 || !member.Mirror {
			users[host] = true
		}
	}
	if m.containers.configuredFor(cluster.Name) {
		users[m.Host] = true
	}
	return slices.Sorted(maps.Keys(users)), nil
}

// nameRecord writes the names of an endpoint, and the container's into the claims
// of its addresses, which a clash is told from. It says whether the endpoint is
// there.
func (m *Mirror) nameRecord(ctx context.Context, network, id string, names []string) (there bool, err error) {
	err = kvstore.Retry(ctx, fmt.Sprintf("names of endpoint %.12s", id), func() error {
		endpoint, item, err := kvstore.Read[fabric.Endpoint](ctx, m.Store, records.EndpointKey(network, id))
		there = err == nil
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil || slices.Equal(endpoint.Names, names) && endpoint.Name == names[0] {
			return err
		}
		renamed := endpoint.Name != names[0]
		endpoint.Name, endpoint.Names = names[0], names
		txn := kvstore.Txn{
			If:   []kvstore.Guard{kvstore.Unchanged(item)},
			Then: []kvstore.Op{kvstore.Put(item.Key, endpoint)},
		}
		for _, addr := range endpoint.Addrs {
			if !renamed {
				break
			}
			if err := m.nameClaim(ctx, endpoint, addr.Addr(), &txn); err != nil {
				return err
			}
		}
		_, err = m.Store.Commit(ctx, txn)
		return err
	})
	return there, err
}

// nameClaim adds to txn that the claim of an address has the endpoint's name.
func (m *Mirror) nameClaim(ctx context.Context, endpoint fabric.Endpoint, addr netip.Addr, txn *kvstore.Txn) error {
	network, _ := m.networks.get(endpoint.Network)
	subnet, ok := records.SubnetOf(network, addr)
	if !ok {
		return nil
	}
	claim, item, err := kvstore.Read[records.Address](ctx, m.Store, records.AddressKey(subnet.Pool, addr))
	if errors.Is(err, kvstore.ErrNotFound) || err == nil && claim.Endpoint != endpoint.ID {
		return nil
	}
	if err != nil {
		return err
	}
	claim.Name = endpoint.Name
	txn.If = append(txn.If, kvstore.Unchanged(item))
	txn.Then = append(txn.Then, kvstore.Put(item.Key, claim))
	return nil
}
