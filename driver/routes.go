package driver

import (
	"net/netip"
	"slices"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
)

// routesThrough are a container's routes to a routed network by its gateway: the halves
// of its own subnet, which win over the route to the whole that goes with the address,
// and the others of the family. The gateway itself is on the link: engines refuse one as
// the default route's that only another next hop leads to, and so does the kernel for
// IPv6. They set the routes on the link first, and then the others in this order, the link
// of each the one that its next hop is on (libnetwork, osl/route_linux.go; 20.10 to 29).
func routesThrough(found fabric.Network, endpoint fabric.Endpoint) (routes []*network.StaticRoute) {
	const nextHop, connected = 0, 1 // libnetwork's types.NEXTHOP and CONNECTED
	for _, addr := range endpoint.Addrs {
		own := slices.IndexFunc(found.Subnets, func(s fabric.Subnet) bool { return s.Prefix.Contains(addr.Addr()) })
		if own < 0 || !found.Subnets[own].Gateway.IsValid() {
			continue
		}
		gateway := found.Subnets[own].Gateway
		itself := netip.PrefixFrom(gateway, gateway.BitLen())
		routes = append(routes, &network.StaticRoute{Destination: itself.String(), RouteType: connected})
		var prefixes []netip.Prefix
		for i, subnet := range found.Subnets {
			if i != own && subnet.Prefix.Addr().Is4() == gateway.Is4() {
				prefixes = append(prefixes, subnet.Prefix)
			}
		}
		for _, prefix := range append(prefixes, fabric.Halves(found.Subnets[own].Prefix, gateway)...) {
			routes = append(routes, &network.StaticRoute{Destination: prefix.String(), RouteType: nextHop, NextHop: gateway.String()})
		}
	}
	return routes
}
