package vxlan

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// The network's gateway (package gateway) is one more port of br0: a pair whose other end
// is the host's. It is secluded: frames for its MAC alone go there, none of them from the
// tunnel, and ARP and ND for it are answered by the bridge. So every host has it, and none
// hears of another's.

// repairGateway has the gateway's pair, and the host's end of it equipped. Where this host
// can't have the gateway, s.gateway is nil, and pruneEnds deletes the pair. A failure
// keeps no container from the network.
func (p *Plane) repairGateway(ctx context.Context, s *segment, want fabric.Segment) (repaired int, err error) {
	s.gateway = nil
	wanted, ok := p.gateways.Admit(want.Network)
	if !ok {
		return 0, nil
	}
	place := wanted.Endpoint()
	s.gateway = &place
	wanted.MTU = want.MTU
	mtu := want.MTU
	if link, err := p.host.Link(wanted.Link); err == nil {
		mtu = link.Attrs().MTU // Ensure sets another: it is not created anew for that
	}
	pair := nl.Pair{
		Endpoint: place.ID, MAC: place.MAC, MTU: mtu, HostMTU: want.MTU, Alias: marker(want.Network.ID),
		Master: int(s.bridge), Link: wanted.Link,
	}
	index := s.ends[nl.HostEnd(place.ID)]
	end, err := pair.Ensure(p.host, s.Handle)
	if err == nil && int32(end.Attrs().Index) != index {
		if index != 0 {
			s.forgetEnd(end.Attrs().Name)
		}
		s.ends[end.Attrs().Name] = int32(end.Attrs().Index)
		repaired, err = 1, s.Seclude(end)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: gateway: %w", fabric.ErrPartial, err)
	}
	count, err := p.gateways.Ensure(ctx, wanted)
	if err != nil {
		err = fmt.Errorf("%w: %w", fabric.ErrPartial, err)
	}
	return repaired + count, err
}

// withGateway gives the segment's local endpoints and the gateway.
func (s *segment) withGateway(local []fabric.Endpoint) []fabric.Endpoint {
	if s.gateway == nil {
		return local
	}
	return append(slices.Clone(local), *s.gateway)
}

// isGateway says whether link is the gateway's port of br0.
func (s *segment) isGateway(link netlink.Link) bool {
	return s.gateway != nil && link.Attrs().Name == nl.HostEnd(s.gateway.ID)
}

// secludedFlaw is that a port lets through what it must not.
func (s *segment) secludedFlaw(link netlink.Link, have netlink.Protinfo) []flaw {
	if have.Isolated && have.NeighSuppress && !have.Flood && !have.Learning {
		return nil
	}
	return []flaw{{"seclude " + link.Attrs().Name, func() error { return s.Seclude(link) }}}
}

// Gateways gives the addresses of the network's gateway, if this host has it.
func (p *Plane) Gateways(segment fabric.Segment) []netip.Addr {
	return p.gateways.Up(segment.Network.ID)
}

// watchGateways has the next Apply read back a network whose gateway others changed.
func (p *Plane) watchGateways(ctx context.Context, drifted func(network string)) error {
	return p.gateways.Watch(ctx, func(network string) {
		for _, s := range p.opened() {
			if s.network == network {
				s.invalidate()
				drifted(network)
			}
		}
	})
}
