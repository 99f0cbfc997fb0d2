package routed

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// hop is where a route leads, as the kernel has it.
type hop struct {
	link int32
	via  netip.Addr // the next hop; zero: what the route leads to is on the link
	src  netip.Addr // what the host itself sends from, zero: the kernel's choice
}

// target is a hop and, through a tunnel, what leads to the other host's end of it.
type target struct {
	hop
	tunnel *tunnel // nil: none
	mac    fabric.MAC
	vtep   netip.Addr
}

// entries of the tunnel are those that the target needs, in the order to write them in.
func (to target) entries() [2]entry {
	return [2]entry{{fdb: true, addr: to.vtep, mac: to.mac}, {addr: to.via, mac: to.mac}}
}

// plannedRoutes are the ways to the segment's prefixes.
func plannedRoutes(want fabric.Segment) map[netip.Prefix]fabric.Way {
	planned := make(map[netip.Prefix]fabric.Way, len(want.Routes))
	for _, route := range want.Routes {
		planned[route.Prefix] = route.Way
	}
	return planned
}

// targetOf says where a route of the network to prefix leads, which is behind the host that
// way leads to. The zero Way is this host's bridge. An IPv6 prefix behind an IPv4 VTEP goes
// through the tunnel: no kernel has an IPv4 next hop in an IPv6 route (the other way
// round is RFC 8950).
func (p *Plane) targetOf(n *network, prefix netip.Prefix, way fabric.Way) (target, error) {
	vtep := way.VTEP
	if !vtep.IsValid() {
		return target{hop: hop{link: n.bridge, src: gatewayOf(n.segment.Network, prefix)}}, nil
	}
	if n.segment.Network.Encrypted {
		return p.throughSealed(prefix, way)
	}
	via := n.segment.Network.Via
	if via != fabric.ViaVXLAN && (prefix.Addr().Is4() || vtep.Is6()) {
		link, err := p.linkTo(vtep)
		if err != nil {
			return target{}, err
		}
		if link != 0 {
			return target{hop: hop{link: link, via: vtep}}, nil
		}
	}
	if via == fabric.ViaDirect {
		return target{}, fmt.Errorf("%w: the host with VTEP %s is not on this host's link: -o via=direct cannot reach its containers, -o via=auto does",
			fabric.ErrPartial, vtep)
	}
	to := p.through(p.open, prefix, vtep)
	to.vtep = vtep
	if vtep.Is4() && prefix.Addr().Is4() {
		to.via = vtep
	}
	return to, nil
}

// throughSealed leads to the WireGuard address of the host.
func (p *Plane) throughSealed(prefix netip.Prefix, way fabric.Way) (target, error) {
	to := p.through(p.sealed, prefix, way.VTEP)
	if to.vtep = way.End; !to.vtep.IsValid() {
		return target{}, fmt.Errorf("%w: the host with VTEP %s has told no key of encrypted networks", fabric.ErrPartial, way.VTEP)
	}
	return to, nil
}

// through leads to the end of the tunnel of the host with that VTEP, by the IPv6 address
// that its MAC makes (RFC 4291, appendix A).
func (p *Plane) through(t *tunnel, prefix netip.Prefix, vtep netip.Addr) target {
	to := target{tunnel: t, mac: t.mac(vtep)}
	to.link, to.via = t.index, to.mac.LinkLocal()
	if vtep.Is4() == prefix.Addr().Is4() {
		to.src = p.VTEP
	}
	return to
}

// linkTo gives the link that vtep is a neighbour on, 0 for none.
func (p *Plane) linkTo(vtep netip.Addr) (int32, error) {
	if link, known := p.links[vtep]; known {
		return link, nil
	}
	routes, err := p.kernel.RouteGet(net.IP(vtep.AsSlice()))
	if err != nil || len(routes) == 0 {
		return 0, nil // unreachable now, or by another link later
	}
	link := int32(0)
	if route := routes[0]; route.Gw == nil && route.Via == nil && route.Type == unix.RTN_UNICAST {
		link = int32(route.LinkIndex)
	}
	p.links[vtep] = link
	return link, nil
}

// gatewayOf gives the gateway address of prefix's subnet, for routes of IPv4.
func gatewayOf(network fabric.Network, prefix netip.Prefix) netip.Addr {
	for _, subnet := range network.Subnets {
		if prefix.Addr().Is4() && subnet.Prefix.Contains(prefix.Addr()) {
			return subnet.Gateway
		}
	}
	return netip.Addr{}
}
