package names

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/causeway-net/causeway/fabric"
)

// directory holds the names of the networks that this host has containers on.
// Readers are the listeners of all sandboxes, the writer is reconcile.
type directory struct {
	mu    sync.RWMutex // guards all below
	zones map[string]*zone
}

// zone is one network's names, in lower case: DNS does not tell cases apart (RFC 4343).
type zone struct {
	name      string
	endpoints map[string]entry // by endpoint ID
	byName    map[string]map[string]bool
	byAddr    map[netip.Addr]string
}

type entry struct {
	host  string
	names []string // the container's own name first
	addrs []netip.Addr
}

func newDirectory() *directory { return &directory{zones: make(map[string]*zone)} }

// update brings a change of a network's endpoints in. A network that swarm
// brings to the hosts has its names there too, from swarm.
func (d *directory) update(network fabric.Network, put map[string]fabric.Endpoint, gone []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if network.Swarm || network.NoNames {
		delete(d.zones, network.ID)
		return
	}
	z := d.zones[network.ID]
	if z == nil {
		z = &zone{endpoints: map[string]entry{}, byName: map[string]map[string]bool{}, byAddr: map[netip.Addr]string{}}
		d.zones[network.ID] = z
	}
	z.name = strings.ToLower(network.Name)
	for _, id := range gone {
		z.remove(id)
	}
	for id, endpoint := range put {
		z.remove(id)
		z.add(id, endpoint)
	}
}

// forget drops a network that has no container here any more.
func (d *directory) forget(network string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.zones, network)
}

func (z *zone) add(id string, endpoint fabric.Endpoint) {
	e := entry{host: endpoint.Host, names: namesOf(endpoint)}
	for _, address := range endpoint.Addrs {
		e.addrs = append(e.addrs, address.Addr())
		z.byAddr[address.Addr()] = id
	}
	z.endpoints[id] = e
	for _, name := range e.names {
		if z.byName[name] == nil {
			z.byName[name] = make(map[string]bool)
		}
		z.byName[name][id] = true
	}
}

func (z *zone) remove(id string) {
	e, known := z.endpoints[id]
	if !known {
		return
	}
	delete(z.endpoints, id)
	for _, name := range e.names {
		delete(z.byName[name], id)
		if len(z.byName[name]) == 0 {
			delete(z.byName, name)
		}
	}
	for _, addr := range e.addrs {
		if z.byAddr[addr] == id {
			delete(z.byAddr, addr)
		}
	}
}

// namesOf gives an endpoint's names in lower case, each once, the container's first.
func namesOf(endpoint fabric.Endpoint) []string {
	var names []string
	for _, name := range slices.Concat([]string{endpoint.Name}, endpoint.Names) {
		name = plain(name)
		if _, valid := dns.IsDomainName(name); valid && name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Match is one container that has a name.
type Match struct {
	Network  string       `json:"network"`
	Endpoint string       `json:"endpoint"`
	Host     string       `json:"host"`
	Names    []string     `json:"names"`
	Addrs    []netip.Addr `json:"addresses"`
}

// find gives the containers that name stands for on the networks, by name and by
// "name.network", sorted. name is in lower case without a final dot.
func (d *directory) find(networks []string, name string) []Match {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var found []Match
	for _, id := range networks {
		z := d.zones[id]
		if z == nil {
			continue
		}
		endpoints := z.byName[name]
		if short, ok := strings.CutSuffix(name, "."+z.name); ok && z.name != "" && len(endpoints) == 0 {
			endpoints = z.byName[short]
		}
		for endpoint := range endpoints {
			e := z.endpoints[endpoint]
			found = append(found, Match{Network: z.name, Endpoint: endpoint, Host: e.host, Names: e.names, Addrs: e.addrs})
		}
	}
	slices.SortFunc(found, func(a, b Match) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return found
}

// nameOf gives a network's name, or its ID where it has none.
func (d *directory) nameOf(network string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if z := d.zones[network]; z != nil && z.name != "" {
		return z.name
	}
	return network
}

// plain gives the form that names are kept in.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// addresses gives the addresses of one family that name has, in another order
// each time; known says whether the name exists at all.
func (d *directory) addresses(networks []string, name string, want func(netip.Addr) bool) (addrs []netip.Addr, known bool) {
	matches := d.find(networks, name)
	for _, match := range matches {
		for _, addr := range match.Addrs {
			if want(addr) && !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs, len(matches) > 0
}

// reverse gives the name of who has addr on the networks, as Docker does:
// "name.network".
func (d *directory) reverse(networks []string, addr netip.Addr) (name string, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, id := range networks {
		z := d.zones[id]
		if z == nil {
			continue
		}
		if e := z.endpoints[z.byAddr[addr]]; len(e.names) > 0 {
			return strings.TrimSuffix(e.names[0]+"."+z.name, "."), true
		}
	}
	return "", false
}
