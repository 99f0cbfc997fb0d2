package routed

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// table is what is known of our routes in the kernel's main table.
type table struct {
	have map[netip.Prefix]hop
	// lost are those that were read and had been written otherwise.
	lost map[netip.Prefix]bool
}

func newTable() table {
	return table{have: make(map[netip.Prefix]hop), lost: make(map[netip.Prefix]bool)}
}

// readBack reads what all networks share, once after Invalidate.
func (p *Plane) readBack() error {
	if p.fresh {
		return nil
	}
	found := make(map[netip.Prefix]hop, len(p.table.have))
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := p.kernel.Routes(family, fabric.RouteProtocol)
		if err != nil {
			return err
		}
		for _, route := range routes {
			if route.Plain {
				found[route.Prefix] = hopOf(route)
			} else if err := p.deleteStray(route.Prefix); err != nil {
				return err
			}
		}
	}
	for prefix, hop := range p.table.have {
		if found[prefix] != hop {
			p.table.lost[prefix] = true
		}
	}
	for prefix := range found {
		if _, known := p.table.have[prefix]; !known {
			p.table.lost[prefix] = true
		}
	}
	p.table.have = found
	clear(p.links)
	clear(p.mtus)
	for _, t := range p.tunnels() {
		if err := p.readTunnel(t); err != nil {
			return err
		}
	}
	p.fresh = true
	return nil
}

// deleteStray deletes a route that bears our number and is not as we write them.
func (p *Plane) deleteStray(prefix netip.Prefix) error {
	stray := p.message(prefix, hop{})
	stray.Scope = netlink.SCOPE_NOWHERE // any
	if err := p.kernel.RouteDel(stray); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route to %s that is not as causeway writes it: %w", prefix, err)
	}
	return nil
}

func hopOf(route nl.Route) hop { return hop{link: route.Link, via: route.Via, src: route.Src} }

// message is the route as netlink takes it.
func (p *Plane) message(prefix netip.Prefix, to hop) *netlink.Route {
	route := &netlink.Route{
		Dst:       &net.IPNet{IP: nl.IP(prefix.Addr()), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
		LinkIndex: int(to.link), Protocol: fabric.RouteProtocol, Table: unix.RT_TABLE_MAIN, Src: nl.IP(to.src), Scope: netlink.SCOPE_UNIVERSE,
	}
	switch {
	case !to.via.IsValid():
		if prefix.Addr().Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
	case to.via.Is4() == prefix.Addr().Is4():
		route.Gw = nl.IP(to.via)
	default:
		route.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: nl.IP(to.via)}
	}
	if to.link == p.open.index && to.via.Is4() {
		route.Flags = int(netlink.FLAG_ONLINK) // the VTEP's own subnet is on another link
	}
	return route
}

// writeAll makes the kernel's routes in the network's subnets those that are planned,
// and says how many it found otherwise than they had been written.
func (p *Plane) writeAll(n *network, failed *nl.Failures) (repaired int) {
	var gone []netip.Prefix
	for prefix := range p.table.have {
		if _, planned := n.planned[prefix]; !planned && within(n.segment.Network, prefix) {
			gone = append(gone, prefix)
		}
	}
	for prefix := range n.targets {
		if _, planned := n.planned[prefix]; !planned && !slices.Contains(gone, prefix) {
			gone = append(gone, prefix)
		}
	}
	for prefix := range p.table.lost {
		if within(n.segment.Network, prefix) {
			delete(p.table.lost, prefix)
			repaired++
		}
	}
	lost := len(p.open.lost) + len(p.sealed.lost)
	p.write(n, n.planned, gone, failed)
	return repaired + lost - len(p.open.lost) - len(p.sealed.lost)
}

func (p *Plane) writeDelta(n *network, d fabric.Delta, failed *nl.Failures) {
	put := make(map[netip.Prefix]fabric.Way, len(d.PutRoutes))
	for _, route := range d.PutRoutes {
		put[route.Prefix] = route.Way
	}
	p.write(n, put, d.GoneRoutes, failed)
}

// write writes those routes that differ, and then deletes those that are gone: a
// packet finds either the old or the new.
func (p *Plane) write(n *network, put map[netip.Prefix]fabric.Way, gone []netip.Prefix, failed *nl.Failures) {
	prefixes := make([]netip.Prefix, 0, len(put))
	for prefix := range put {
		prefixes = append(prefixes, prefix)
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	for _, prefix := range prefixes {
		failed.Add(p.put(n, prefix, put[prefix]))
	}
	for _, prefix := range gone {
		failed.Add(p.remove(n, prefix))
	}
}

func (p *Plane) put(n *network, prefix netip.Prefix, way fabric.Way) error {
	to, err := p.targetOf(n, prefix, way)
	if err == nil && to.tunnel != nil {
		if err = p.ensurePeer(n.segment, to); err == nil {
			to.link = to.tunnel.index
		}
	}
	if err != nil {
		return errors.Join(err, p.remove(n, prefix))
	}
	before, counted := n.targets[prefix]
	n.targets[prefix] = to
	use(to, 1)
	if counted {
		use(before, -1)
	}
	if err := errors.Join(p.setRoute(prefix, to.hop), p.lead(n, prefix, to)); err != nil || !counted {
		return err
	}
	return p.dropPeer(before)
}

func (p *Plane) setRoute(prefix netip.Prefix, to hop) error {
	have, there := p.table.have[prefix]
	if there && have == to {
		return nil
	}
	set := p.kernel.RouteAdd // which refuses to take the place of another's
	if there {
		set = p.kernel.RouteReplace
	}
	err := set(p.message(prefix, to))
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: the host has a route to %s that is not causeway's", fabric.ErrPartial, prefix)
	}
	if err != nil {
		return fmt.Errorf("set route to %s by %s: %w", prefix, to.via, err)
	}
	p.table.have[prefix] = to
	return nil
}

// remove deletes a route of ours, and what of the tunnel it was the last to need.
func (p *Plane) remove(n *network, prefix netip.Prefix) error {
	if err := p.lead(n, prefix, target{}); err != nil {
		return err
	}
	if have, there := p.table.have[prefix]; there {
		err := p.kernel.RouteDel(p.message(prefix, have))
		// ESRCH, ENODEV: it went with its link.
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete route to %s: %w", prefix, err)
		}
		delete(p.table.have, prefix)
	}
	before, counted := n.targets[prefix]
	if !counted {
		return nil
	}
	delete(n.targets, prefix)
	use(before, -1)
	return p.dropPeer(before)
}

// within says whether all of prefix is in one of the network's subnets.
func within(network fabric.Network, prefix netip.Prefix) bool {
	return slices.ContainsFunc(network.Subnets, func(s fabric.Subnet) bool {
		return prefix.Bits() >= s.Prefix.Bits() && s.Prefix.Contains(prefix.Addr())
	})
}
