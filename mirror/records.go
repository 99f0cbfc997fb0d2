package mirror

import (
	"context"
	"maps"
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
	if m.containers.ConfiguredFor(cluster.Name) {
		users[m.Host] = true
	}
	return slices.Sorted(maps.Keys(users)), nil
}
