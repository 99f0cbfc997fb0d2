// Package agent answers the command line: what the cluster looks like from this
// host, and what is wrong.
//
// "causeway status" asks the agent of its own host over a socket that root alone
// can open (server.go); the agent reads the records, adds the faults that the
// parts of this causeway reported, and answers with one [Status], as JSON.
package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Status is the cluster as one host sees it.
type Status struct {
	Host    string `json:"host"`
	Version string `json:"version"`
	// Store is empty while the store answers, else says why it does not; the
	// lists are then empty, and the first of the troubles says so.
	Store     string     `json:"store,omitempty"`
	Hosts     []Host     `json:"hosts"`
	Networks  []Network  `json:"networks"`
	Endpoints []Endpoint `json:"endpoints"`
	// Drops are what this host's packet filter kept out.
	Drops []hostfilter.Drop `json:"drops"`
	// PortDrops are what containers of this host sent and may not.
	PortDrops []PortDrop `json:"port_drops"`
	// Troubles are sentences: the faults of this host, and what the records show
	// to be wrong in the cluster.
	Troubles []string `json:"troubles"`
}

// Host is one host of the cluster.
type Host struct {
	fabric.Host
	// AliveSince is when its causeway started; nil while none runs there.
	AliveSince *time.Time `json:"alive_since,omitempty"`
	Endpoints  int        `json:"endpoints"`
	// Role is what the host does in a closed cluster's store: it leads, votes or
	// learns; empty where it does not hold it.
	Role string `json:"role,omitempty"`
}

// Network is one network of the cluster.
type Network struct {
	fabric.Network
	// Pools are in the order of Subnets.
	Pools []Pool `json:"pools"`
	// Hosts are those with endpoints on it.
	Hosts []string `json:"hosts"`
	// Configured are those with containers, stopped ones included, that are
	// configured for it: while there are any it is not removed.
	Configured []string `json:"configured,omitempty"`
}

// Pool counts a subnet's addresses.
type Pool struct {
	Prefix netip.Prefix `json:"prefix"`
	// Used are the addresses that someone has: endpoints, gateway, aux.
	Used int `json:"used"`
	// Free are the others that may be given out; -1 where they are past counting.
	Free int `json:"free"`
}

// Endpoint is one container's place, with its network's name.
type Endpoint struct {
	fabric.Endpoint
	NetworkName string `json:"network_name"`
}

// reader lists tables of the store.
type reader struct {
	store kvstore.Store
	err   error
	bad   map[string]string // a sentence for each prefix with records that cannot be decoded
}

func newReader(store kvstore.Store) *reader { return &reader{store: store, bad: map[string]string{}} }

// all reads every record below prefix; after an error it does nothing more. What
// cannot be decoded is left out and counted: it hides no other record.
func all[T any](ctx context.Context, r *reader, prefix string) map[string]T {
	if r.err != nil {
		return nil
	}
	snapshot, err := r.store.List(ctx, prefix)
	if err != nil {
		r.err = err
		return nil
	}
	values := make(map[string]T, len(snapshot.Items))
	bad := make(map[string]error)
	for key, item := range snapshot.Items {
		value, err := kvstore.Decode[T](item)
		if err != nil {
			bad[key] = err
			continue
		}
		values[strings.TrimPrefix(key, prefix)] = value
	}
	if len(bad) > 0 {
		example := bad[slices.Min(slices.Collect(maps.Keys(bad)))]
		r.bad[prefix] = fmt.Sprintf("%d of the records below %s cannot be read and are ignored, for example %v", len(bad), prefix, example)
	}
	return values
}

// tables reads what the cluster has.
func (r *reader) tables(ctx context.Context) doctor.Records {
	return doctor.Records{
		Hosts:     all[fabric.Host](ctx, r, records.HostsPrefix),
		Alive:     all[records.Alive](ctx, r, records.AlivePrefix),
		Networks:  all[fabric.Network](ctx, r, records.NetworksPrefix),
		Endpoints: all[fabric.Endpoint](ctx, r, records.EndpointsPrefix),
		Addresses: all[records.Address](ctx, r, records.AddressesPrefix),
		Members:   all[records.Member](ctx, r, records.MembersPrefix),
	}
}

func newStatus(host fabric.Host) Status {
	return Status{
		Host: host.Shown(), Version: host.Version, Troubles: []string{},
		Hosts: []Host{}, Networks: []Network{}, Endpoints: []Endpoint{}, Drops: []hostfilter.Drop{}, PortDrops: []PortDrop{}, // [] in JSON, not null
	}
}

// status reads the records.
func status(ctx context.Context, store kvstore.Store, host fabric.Host, faults []health.Fault) Status {
	s := newStatus(host)
	r := newReader(store)
	tables := r.tables(ctx)
	hosts, networks, endpoints := tables.Hosts, tables.Networks, tables.Endpoints
	if r.err != nil {
		s.Store = r.err.Error()
		s.Troubles = append(s.Troubles, "the lists of hosts, networks and endpoints cannot be read: "+s.Store)
	}
	for _, fault := range faults {
		s.Troubles = append(s.Troubles, fault.Text)
		if fault.Part == health.Records {
			delete(r.bad, fault.Object+"/") // it tells of the same records
		}
	}
	if r.err != nil {
		return s
	}
	s.Troubles = append(s.Troubles, slices.Sorted(maps.Values(r.bad))...)
	s.Troubles = append(s.Troubles, overlaps(networks)...)
	on := make(map[string]map[string]int) // endpoints by network and host
	for _, endpoint := range endpoints {
		if on[endpoint.Network] == nil {
			on[endpoint.Network] = make(map[string]int)
		}
		on[endpoint.Network][endpoint.Host]++
		s.Endpoints = append(s.Endpoints, Endpoint{endpoint, nameOf(networks[endpoint.Network], endpoint.Network)})
	}
	slices.SortFunc(s.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.NetworkName, b.NetworkName), strings.Compare(a.Host, b.Host), strings.Compare(a.ID, b.ID))
	})
	used := tables.Used()
	for _, id := range slices.Sorted(maps.Keys(networks)) {
		network := Network{Network: networks[id], Pools: []Pool{}, Hosts: append([]string{}, slices.Sorted(maps.Keys(on[id]))...)}
		network.Configured = configuredOn(tables.Members, id)
		for _, subnet := range network.Subnets {
			network.Pools = append(network.Pools, pool(subnet, used[subnet.Pool]))
		}
		s.Networks = append(s.Networks, network)
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		s.Hosts = append(s.Hosts, hostStatus(hosts[name], tables.Alive, on))
		if version := hosts[name].Version; version != host.Version {
			s.Troubles = append(s.Troubles, fmt.Sprintf("host %s runs causeway %s, this one %s: bring all hosts to one version", hosts[name].Shown(), version, host.Version))
		}
	}
	return s
}

// overlaps tells, in one sentence, which networks have a subnet in an address
// space of their own because it overlaps another's.
func overlaps(networks map[string]fabric.Network) []string {
	var own []string
	for _, id := range slices.Sorted(maps.Keys(networks)) {
		for _, subnet := range networks[id].Subnets {
			if !records.InOwnSpace(subnet.Pool) {
				continue
			}
			if other, found := overlapping(networks, id, subnet.Prefix); found {
				own = append(own, fmt.Sprintf("%s (%s, as %s)", networks[id].Label(), subnet.Prefix, other))
				break
			}
		}
	}
	if len(own) == 0 {
		return nil
	}
	const most = 10
	if more := len(own) - most; more > 0 {
		own = append(own[:most], fmt.Sprint("and ", more, " more"))
	}
	return []string{"networks whose subnets overlap another's are kept apart, each with its own addresses: " + strings.Join(own, ", ")}
}

// overlapping names another network than id that has addresses of prefix.
func overlapping(networks map[string]fabric.Network, id string, prefix netip.Prefix) (label string, found bool) {
	for _, other := range slices.Sorted(maps.Keys(networks)) {
		for _, subnet := range networks[other].Subnets {
			if other != id && subnet.Prefix.Overlaps(prefix) {
				return networks[other].Label(), true
			}
		}
	}
	return "", false
}

// configuredOn names the hosts that have containers configured for a network, sorted.
func configuredOn(members map[string]records.Member, network string) []string {
	var hosts []string
	for key, member := range members {
		if host, ok := strings.CutPrefix(key, network+"/"); ok && member.Configured > 0 {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// addDrops notes what was kept out.
func (s *Status) addDrops(drops []hostfilter.Drop, err error) {
	if err != nil {
		s.Troubles = append(s.Troubles, "what the packet filter dropped cannot be read: "+err.Error())
	}
	s.Drops = append(s.Drops, drops...)
}

// addRoles notes which hosts hold the store.
func (s *Status) addRoles(roles map[string]string, err error) {
	if err != nil {
		s.Troubles = append(s.Troubles, "which hosts hold the store cannot be read: "+err.Error())
		return
	}
	for i := range s.Hosts {
		s.Hosts[i].Role = roles[s.Hosts[i].Name]
	}
}

func nameOf(network fabric.Network, id string) string { return cmp.Or(network.Name, id) }

func hostStatus(host fabric.Host, alive map[string]records.Alive, on map[string]map[string]int) Host {
	h := Host{Host: host}
	if held, ok := alive[host.Name]; ok {
		h.AliveSince = &held.Since
	}
	for _, hosts := range on {
		h.Endpoints += hosts[host.Name]
	}
	return h
}

// pool counts what is left of a subnet.
func pool(subnet fabric.Subnet, used int) Pool {
	return Pool{Prefix: subnet.Prefix, Used: used, Free: doctor.Free(subnet, used)}
}
