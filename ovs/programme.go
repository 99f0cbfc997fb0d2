package ovs

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// programme is what one network's flows and groups are made from. The key static
// of Plane.known has the flows that serve every network.
type programme struct {
	segment fabric.Segment // without its peers
	peers   map[string]fabric.Peer
	ports   numbers
	// stale says that the switch must be read before the next write.
	stale bool
}

const static = ""

func newProgramme(segment fabric.Segment, ports numbers) programme {
	p := programme{segment: segment, peers: make(map[string]fabric.Peer, len(segment.Remote)), ports: ports}
	for _, peer := range segment.Remote {
		p.peers[peer.ID] = peer
	}
	p.segment.Remote = nil
	return p
}

// numbers are the OpenFlow ports that flows name. The switch assigns them,
// and others after its restart.
type numbers struct {
	tunnel int
	local  map[string]int // by endpoint ID
}

// place is where an endpoint is: on a port of this switch, or behind a VTEP.
type place struct {
	*fabric.Endpoint
	port int
	vtep netip.Addr
}

// local returns the places of the endpoints that have a port here.
func (p programme) local() []place {
	var places []place
	for i := range p.segment.Local {
		endpoint := &p.segment.Local[i]
		if port := p.ports.local[endpoint.ID]; port > 0 {
			places = append(places, place{endpoint, port, netip.Addr{}})
		}
	}
	return places
}

func (p programme) remote() []place { return p.behind(slices.Sorted(maps.Keys(p.peers))) }

// behind returns the places of those of the peers that there are.
func (p programme) behind(peers []string) []place {
	found := make([]fabric.Peer, 0, len(peers))
	for _, id := range peers {
		if peer, ok := p.peers[id]; ok {
			found = append(found, peer)
		}
	}
	places := make([]place, len(found))
	for i := range found {
		places[i] = place{&found[i].Endpoint, 0, found[i].VTEP}
	}
	return places
}

func (a place) equal(b place) bool {
	return a.ID == b.ID && a.port == b.port && a.vtep == b.vtep && a.MAC == b.MAC && slices.Equal(a.Addrs, b.Addrs)
}

func (p programme) isStatic() bool { return p.segment.Network.ID == static }

func (p programme) groups() []vswitch.Group {
	if p.segment.Network.Encrypted { // its device floods
		return nil
	}
	return groupsOf(p.segment.Network.VNI, p.segment.Flood, p.ports.tunnel)
}

// flows returns all flows. It is pure: equal segments and ports give equal flows.
func (p programme) flows() []vswitch.Flow {
	if p.isStatic() {
		return staticFlows()
	}
	w := p.writer()
	w.unknown()
	w.sources(p.segment.Flood)
	local, remote := p.local(), p.remote()
	w.places(slices.Concat(local, remote))
	w.flood(local, len(p.segment.Flood))
	return w.done()
}

func (p programme) writer() *writer {
	return &writer{cookie: cookieOf(p.segment.Network), network: p.segment.Network, vni: p.segment.Network.VNI, tunnel: p.ports.tunnel}
}

// difference returns the change of flows from last to want. Only the flows of what
// differs are written out and compared.
func difference(last, want programme) vswitch.Change {
	if want.isStatic() {
		return vswitch.Change{}
	}
	if cookieOf(last.segment.Network) != cookieOf(want.segment.Network) || last.ports.tunnel != want.ports.tunnel {
		return vswitch.ChangeOf(last.flows(), want.flows())
	}
	return between(last, want, last.remote(), want.remote())
}

// between is difference where of the peers only some need a look.
func between(last, want programme, lastRemote, wantRemote []place) vswitch.Change {
	lastLocal, wantLocal := last.local(), want.local()
	local := unequal(lastLocal, wantLocal)
	touched := newIdentities(local, unequal(lastRemote, wantRemote))
	have, wanted := last.writer(), want.writer()
	have.places(touched.of(lastLocal, lastRemote))
	wanted.places(touched.of(wantLocal, wantRemote))
	if !slices.Equal(last.segment.Flood, want.segment.Flood) {
		have.sources(without(last.segment.Flood, want.segment.Flood))
		wanted.sources(without(want.segment.Flood, last.segment.Flood))
	}
	if len(local) > 0 || len(last.segment.Flood) != len(want.segment.Flood) {
		have.flood(lastLocal, len(last.segment.Flood))
		wanted.flood(wantLocal, len(want.segment.Flood))
	}
	return vswitch.ChangeOf(have.done(), wanted.done())
}

// unequal returns the places that are not the same in both lists, which are sorted
// by endpoint ID, as fabric.Plan has them.
func unequal(a, b []place) []place {
	var found []place
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].ID < b[0].ID:
			found, a = append(found, a[0]), a[1:]
		case len(a) == 0 || b[0].ID < a[0].ID:
			found, b = append(found, b[0]), b[1:]
		default:
			if !a[0].equal(b[0]) {
				found = append(found, a[0], b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	return found
}

// without returns the addresses of a that b lacks; both are sorted.
func without(a, b []netip.Addr) []netip.Addr {
	var rest []netip.Addr
	for _, addr := range a {
		if _, found := slices.BinarySearchFunc(b, addr, netip.Addr.Compare); !found {
			rest = append(rest, addr)
		}
	}
	return rest
}

// identities are MACs and addresses. Endpoints that share one have flows of one
// key, so that a change of one endpoint concerns the other too.
type identities struct {
	macs  map[fabric.MAC]bool
	addrs map[netip.Addr]bool
}

func newIdentities(lists ...[]place) identities {
	found := identities{map[fabric.MAC]bool{}, map[netip.Addr]bool{}}
	for _, place := range slices.Concat(lists...) {
		found.macs[place.MAC] = true
		for _, addr := range place.Addrs {
			found.addrs[addr.Addr().Unmap()] = true
		}
	}
	return found
}

func (i identities) include(e fabric.Endpoint) bool {
	return i.macs[e.MAC] || slices.ContainsFunc(e.Addrs, func(addr netip.Prefix) bool { return i.addrs[addr.Addr().Unmap()] })
}

// of returns the places of endpoints that have one of the identities.
func (i identities) of(lists ...[]place) []place {
	if len(i.macs) == 0 {
		return nil
	}
	var found []place
	for _, list := range lists {
		for _, place := range list {
			if i.include(*place.Endpoint) {
				found = append(found, place)
			}
		}
	}
	return found
}

// program writes the difference between what the switch has of a network and
// want. What it finds missing of what was written, and is still wanted, is repaired.
func (p *Plane) program(ctx context.Context, id string, want programme) (repaired int, err error) {
	last, known := p.known[id]
	if known && !last.stale {
		return 0, p.write(ctx, id, want, difference(last, want), !sameGroups(last, want))
	}
	have, err := p.vswitch.DumpFlows(ctx, cookieOf(want.segment.Network), ^uint64(0), "")
	if err != nil {
		return 0, err
	}
	flows := want.flows()
	if known {
		repaired = vswitch.MissingOf(last.flows(), flows, have)
		if !want.isStatic() {
			set, _ := regroup(p.have.groups, want.segment.Network.VNI, want.groups())
			repaired += lost(last.groups(), set)
		}
	}
	return repaired, p.write(ctx, id, want, vswitch.ChangeOf(have, flows), true)
}

func sameGroups(last, want programme) bool {
	return last.ports.tunnel == want.ports.tunnel && slices.Equal(last.segment.Flood, want.segment.Flood)
}

// write writes a change of flows and, where they may differ, groups. After it the
// switch has want.
func (p *Plane) write(ctx context.Context, id string, want programme, c vswitch.Change, groups bool) error {
	if groups && !want.isStatic() {
		c.SetGroups, c.RemoveGroups = regroup(p.have.groups, want.segment.Network.VNI, want.groups())
	}
	c.Meters = remeter(p.have.meters, p.known[id].meters(), want.meters())
	p.activity.wrote(cookieOf(want.segment.Network), c)
	if err := p.vswitch.Write(ctx, c); err != nil {
		return err
	}
	for _, g := range c.SetGroups {
		p.have.groups[g.ID] = g.Buckets
	}
	for _, id := range c.RemoveGroups {
		delete(p.have.groups, id)
	}
	p.have.metered(c.Meters)
	p.known[id] = want
	return nil
}

// lost counts the groups that must be set to what they were before.
func lost(last, set []vswitch.Group) int {
	count := 0
	for _, g := range set {
		if slices.Contains(last, g) {
			count++
		}
	}
	return count
}
