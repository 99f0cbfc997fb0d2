package fabric

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Delta is how a segment changed since it was applied last. Of two endpoints that
// share an address or a MAC it has both or none, so that a plane may write it without
// a look at the other peers.
type Delta struct {
	// Segment is as it is now, but for Remote and Routes, which are left out.
	Segment
	// Put are the peers that came or changed, by ID.
	Put []Peer
	// Gone are the endpoints that went or changed, local ones too, as they were.
	Gone []Endpoint
	// PutRoutes are the routes that came or changed, GoneRoutes those that went; by
	// prefix.
	PutRoutes  []Route
	GoneRoutes []netip.Prefix
}

// Change says what of a network's endpoints changed.
type Change struct {
	// Local are the network's endpoints on this host.
	Local map[string]Endpoint
	// Before are the endpoints that changed, as they were when the segment was
	// applied last; the zero Endpoint for one that was not there.
	Before map[string]Endpoint
	// Flood is as [FloodTo] gives it, Others as [OthersOf] does.
	Flood  []netip.Addr
	Others []netip.Addr
}

// PlanDelta gives the change of one segment that Plan gives. But for its endpoints
// nothing may have changed that Plan looks at.
func PlanDelta(s State, network Network, self string, change Change) Delta {
	var d Delta
	put, gone := make(map[netip.Prefix]Way), make(map[netip.Prefix]Way)
	routed := func(endpoint Endpoint, to map[netip.Prefix]Way) {
		if network.Mode != ModeRouted {
			return
		}
		for _, route := range endpointRoutes(s, network, self, endpoint) {
			if have, taken := to[route.Prefix]; !taken || have != (Way{}) {
				to[route.Prefix] = route.Way
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(change.Before)) {
		before, now := change.Before[id], s.Endpoints[network.ID][id]
		if before.ID != "" {
			d.Gone = append(d.Gone, before)
		}
		routed(before, gone)
		routed(now, put)
		if host := s.Hosts[now.Host]; now.Host != self && tunnelled(network, s.Hosts[self], host) {
			d.Put = append(d.Put, Peer{Endpoint: now, VTEP: vtepOn(network, host)})
		}
	}
	s.Endpoints = map[string]map[string]Endpoint{network.ID: change.Local}
	s.Blocks = nil
	d.Segment = segmentOf(s, network, self)
	d.Flood, d.Others = change.Flood, change.Others
	d.PutRoutes = sortedRoutes(put)
	for _, route := range sortedRoutes(gone) {
		if _, kept := put[route.Prefix]; !kept {
			d.GoneRoutes = append(d.GoneRoutes, route.Prefix)
		}
	}
	return d
}

// FloodTo gives the ends of network's tunnels on those of the hosts that one leads to, sorted.
func FloodTo(s State, network Network, self string, hosts map[string]int) []netip.Addr {
	flood := make(map[netip.Addr]bool, len(hosts))
	for name := range hosts {
		if host, known := s.Hosts[name]; known && name != self && tunnelled(network, s.Hosts[self], host) {
			flood[vtepOn(network, host)] = true
		}
	}
	return slices.SortedFunc(maps.Keys(flood), netip.Addr.Compare)
}

// OthersOf gives the other ends of an encrypted network's tunnels on those hosts, sorted.
func OthersOf(s State, network Network, self string, hosts map[string]int) []netip.Addr {
	if !network.Encrypted {
		return nil
	}
	var others []netip.Addr
	for name := range hosts {
		for _, end := range []WireGuard{s.Hosts[name].Next, s.Hosts[name].Last} {
			if name != self && end.Key != "" {
				others = append(others, end.Addr())
			}
		}
	}
	slices.SortFunc(others, netip.Addr.Compare)
	return slices.Compact(others)
}

// From gives the whole segment that d leads to from the one before.
func (d Delta) From(before Segment) Segment {
	remote := make(map[string]Peer, len(before.Remote)+len(d.Put))
	for _, peer := range before.Remote {
		remote[peer.ID] = peer
	}
	d.Merge(remote)
	d.Remote = slices.SortedFunc(maps.Values(remote), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	routes := make(map[netip.Prefix]Way, len(before.Routes)+len(d.PutRoutes))
	for _, route := range before.Routes {
		routes[route.Prefix] = route.Way
	}
	d.MergeRoutes(routes)
	d.Routes = sortedRoutes(routes)
	return d.Segment
}

// Merge brings the change into the segment's peers, by ID.
func (d Delta) Merge(remote map[string]Peer) {
	for _, endpoint := range d.Gone {
		delete(remote, endpoint.ID)
	}
	for _, peer := range d.Put {
		remote[peer.ID] = peer
	}
}

// MergeRoutes brings the change into the segment's routes, by prefix.
func (d Delta) MergeRoutes(routes map[netip.Prefix]Way) {
	for _, prefix := range d.GoneRoutes {
		delete(routes, prefix)
	}
	for _, route := range d.PutRoutes {
		routes[route.Prefix] = route.Way
	}
}
