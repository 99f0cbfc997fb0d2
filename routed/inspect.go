package routed

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
)

// Inspect says which links, routes, entries of the tunnels and filters are not as the segment wants
// them.
func (p *Plane) Inspect(_ context.Context, want fabric.Segment) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.networks[want.Network.ID]
	if n == nil {
		return []string{"the network was not applied yet"}, nil
	}
	found, err := p.inspect(n, want)
	return found, wrap(want.Network, err)
}

func (p *Plane) inspect(n *network, want fabric.Segment) (found []string, err error) {
	if _, err := p.kernel.LinkByIndex(int(n.bridge)); err != nil {
		found = append(found, "the network's bridge is gone")
	}
	there := make(map[netip.Prefix]hop)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := p.kernel.Routes(family, fabric.RouteProtocol)
		if err != nil {
			return nil, err
		}
		for _, route := range routes {
			there[route.Prefix] = hopOf(route)
		}
	}
	for prefix := range plannedRoutes(want) {
		to, written := n.targets[prefix]
		have, ok := there[prefix]
		switch {
		case !written || !ok:
			found = append(found, fmt.Sprintf("missing: route to %s", prefix))
		case have != to.hop:
			found = append(found, fmt.Sprintf("the route to %s leads to %s in place of %s", prefix, have, to.hop))
		}
	}
	for prefix, hop := range there {
		if _, planned := n.targets[prefix]; !planned && within(want.Network, prefix) {
			found = append(found, fmt.Sprintf("not ours: route to %s, %s", prefix, hop))
		}
	}
	slices.Sort(found)
	unfiltered, err := p.filters.Inspect(p.kernel, slices.Collect(maps.Values(n.ports)))
	return append(found, unfiltered...), err
}

func (h hop) String() string {
	if h.via.IsValid() {
		return h.via.String()
	}
	return fmt.Sprintf("link %d", h.link)
}
