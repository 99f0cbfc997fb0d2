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
	// Segment is as it is now, but for Remote, which is left out.
	Segment
	// Put are the peers that came or changed, by ID.
	Put []Peer
	// Gone are the endpoints that went or changed, local ones too, as they were.
	Gone []Endpoint
}

// Change says what of a network's endpoints changed.
type Change struct {
	// Local are the network's endpoints on this host.
	Local map[string]Endpoint
	// Before are the endpoints that changed, as they were when the segment was
	// applied last; the zero Endpoint for one that was not there.
	Before map[string]Endpoint
	// Flood is as [FloodTo] gives it.
	Flood []netip.Addr
}

// PlanDelta gives the change of one segment that Plan gives. But for its endpoints
// nothing may have changed that Plan looks at.
func PlanDelta(s State, network Network, self string, change Change) Delta {
	var d Delta
	for _, id := range slices.Sorted(maps.Keys(change.Before)) {
		before, now := change.Before[id], s.Endpoints[network.ID][id]
		if before.ID != "" {
			d.Gone = append(d.Gone, before)
		}
		if host, known := s.Hosts[now.Host]; known && now.Host != self && sameFamily(host.VTEP, s.Hosts[self].VTEP) {
			d.Put = append(d.Put, Peer{Endpoint: now, VTEP: host.VTEP})
		}
	}
	s.Endpoints = map[string]map[string]Endpoint{network.ID: change.Local}
	d.Segment = segmentOf(s, network, self)
	d.Flood = change.Flood
	return d
}

// FloodTo gives the VTEPs of those hosts that a tunnel leads to, sorted.
func FloodTo(s State, self string, hosts map[string]int) []netip.Addr {
	flood := make(map[netip.Addr]bool, len(hosts))
	for name := range hosts {
		if host, known := s.Hosts[name]; known && name != self && sameFamily(host.VTEP, s.Hosts[self].VTEP) {
			flood[host.VTEP] = true
		}
	}
	return slices.SortedFunc(maps.Keys(flood), netip.Addr.Compare)
}

// From gives the whole segment that d leads to from the one before.
func (d Delta) From(before Segment) Segment {
	remote := make(map[string]Peer, len(before.Remote)+len(d.Put))
	for _, peer := range before.Remote {
		remote[peer.ID] = peer
	}
	d.Merge(remote)
	d.Remote = slices.SortedFunc(maps.Values(remote), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
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
