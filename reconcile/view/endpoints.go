package view

import (
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
)

// How a network's endpoints are kept, and what of them changed since it was applied.

// changes are what happened to a network's endpoints since it was applied last.
type changes struct {
	before map[string]fabric.Endpoint // as in [fabric.Change]
	flood  []netip.Addr               // nil: to be planned, with others
	others []netip.Addr
}

// owners count the endpoints that have a MAC or an address: more than one only for
// a while, as where a dead host's endpoint has a successor.
type owners struct {
	macs  map[fabric.MAC]int
	addrs map[netip.Addr]int
}

func newOwners() owners { return owners{map[fabric.MAC]int{}, map[netip.Addr]int{}} }

// add counts e by times more, or less.
func (o owners) add(e fabric.Endpoint, times int) {
	if o.macs[e.MAC] += times; o.macs[e.MAC] == 0 {
		delete(o.macs, e.MAC)
	}
	for _, prefix := range e.Addrs {
		addr := prefix.Addr().Unmap()
		if o.addrs[addr] += times; o.addrs[addr] == 0 {
			delete(o.addrs, addr)
		}
	}
}

// matches says that what e has is had as often in other.
func (o owners) matches(other owners, e fabric.Endpoint) bool {
	for _, prefix := range e.Addrs {
		if addr := prefix.Addr().Unmap(); o.addrs[addr] != other.addrs[addr] {
			return false
		}
	}
	return o.macs[e.MAC] == other.macs[e.MAC]
}

func (v *View) addEndpoint(e fabric.Endpoint) {
	v.noteChange(e.Network, e.ID)
	v.state.Endpoints[e.Network][e.ID] = e
	if v.owners[e.Network].macs == nil {
		v.owners[e.Network] = newOwners()
	}
	v.owners[e.Network].add(e, 1)
	v.count(e, 1)
	if e.Host == v.self.Name {
		if v.own[e.Network] == nil {
			v.own[e.Network] = map[string]fabric.Endpoint{}
		}
		v.own[e.Network][e.ID] = e
	}
}

func (v *View) dropEndpoint(network, id string) {
	e, known := v.state.Endpoints[network][id]
	if !known {
		return
	}
	v.noteChange(network, id)
	delete(v.state.Endpoints[network], id)
	v.owners[network].add(e, -1)
	v.count(e, -1)
	if delete(v.own[network], id); len(v.own[network]) == 0 {
		delete(v.own, network)
	}
}

// count counts e's host on its network.
func (v *View) count(e fabric.Endpoint, times int) {
	if v.on[e.Network] == nil {
		v.on[e.Network] = map[string]int{}
	}
	hosts := v.on[e.Network]
	before := hosts[e.Host]
	if hosts[e.Host] += times; hosts[e.Host] == 0 {
		delete(hosts, e.Host)
	}
	if changes := v.changes[e.Network]; changes != nil && (before == 0 || hosts[e.Host] == 0) {
		changes.flood = nil
	}
	if len(hosts) == 0 {
		delete(v.on, e.Network)
	}
}

// noteChange keeps an endpoint as it was when its network was applied.
func (v *View) noteChange(network, id string) {
	changes := v.changes[network]
	if changes == nil {
		return
	}
	if _, noted := changes.before[id]; !noted {
		changes.before[id] = v.state.Endpoints[network][id]
	}
}

// networksOf are those that a host has a part in: by its endpoints, those too that went
// since the network was applied, or by its blocks.
func (v *View) networksOf(host string) map[string]bool {
	networks := make(map[string]bool)
	for id, hosts := range v.on {
		if hosts[host] > 0 {
			networks[id] = true
		}
	}
	for id, hosts := range v.holders {
		if hosts[host] {
			networks[id] = true
		}
	}
	for id, changes := range v.changes {
		for _, was := range changes.before {
			if was.Host == host {
				networks[id] = true
			}
		}
	}
	return networks
}

// whole has the networks applied as a whole: more changed than their endpoints.
func (v *View) whole(networks map[string]bool) []string {
	ids := make([]string, 0, len(networks))
	for id := range networks {
		delete(v.changes, id)
		ids = append(ids, id)
	}
	return ids
}

// Applied notes that a network was applied as it is in view: from now on Delta
// gives its changes. One that failed must be applied as a whole.
func (v *View) Applied(network string, ok bool) {
	have := v.changes[network]
	switch {
	case !ok:
		delete(v.changes, network)
	case have == nil:
		v.changes[network] = &changes{before: map[string]fabric.Endpoint{}}
	default:
		clear(have.before)
	}
}

// Delta plans what changed of a network since it was applied; false says that it must
// be applied as a whole.
func (v *View) Delta(id string) (fabric.Delta, bool) {
	network, known := v.state.Networks[id]
	changes := v.changes[id]
	if !known || changes == nil || !v.closed(id, changes.before) {
		return fabric.Delta{}, false
	}
	if changes.flood == nil {
		changes.flood = fabric.FloodTo(v.state, network, v.self.Name, v.on[id])
		changes.others = fabric.OthersOf(v.state, network, v.self.Name, v.on[id])
	}
	change := fabric.Change{Local: v.own[id], Before: changes.before, Flood: changes.flood, Others: changes.others}
	return fabric.PlanDelta(v.state, network, v.self.Name, change), true
}

// closed says that no endpoint but those that changed has an address or a MAC of
// theirs, be it as they were or as they are.
func (v *View) closed(network string, before map[string]fabric.Endpoint) bool {
	changed := newOwners()
	for id := range before {
		if now, there := v.state.Endpoints[network][id]; there {
			changed.add(now, 1)
		}
	}
	for id, was := range before {
		now, there := v.state.Endpoints[network][id]
		if there && !v.owners[network].matches(changed, now) || was.ID != "" && !v.owners[network].matches(changed, was) {
			return false
		}
	}
	return true
}
