package gateway

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// ErrOverlap says that a network's subnet is the host's already.
var ErrOverlap = errors.New("overlaps a route of this host")

// wide is the length of a prefix that is a default route in parts, such as those that
// VPNs set (0.0.0.0/1, 2000::/3), and no place of its own.
const wide = 4

// conflict says why the gateway can't be on this host: one of its subnets overlaps a
// route, which may be that of another network's gateway. A gateway that is here already
// stays: its containers rely on it.
func (g *Gateways) conflict(gateway Gateway) error {
	own := 0
	link, err := g.Host.Link(gateway.Link)
	if err == nil && link.Attrs().Alias == gateway.Alias() {
		return nil
	}
	if err == nil {
		own = link.Attrs().Index
	}
	routes, err := g.Host.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list the host's routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil || route.LinkIndex == own && own != 0 || gateway.Routed && route.Protocol == fabric.RouteProtocol {
			continue
		}
		to := prefixOfNet(route.Dst)
		for _, addr := range gateway.Addrs {
			if to.Bits() >= wide && to.Addr().IsValid() && to.Overlaps(addr.Masked()) && !to.Addr().IsLinkLocalUnicast() {
				return fmt.Errorf("its subnet %s %w: %s", addr.Masked(), ErrOverlap, g.describe(to, route))
			}
		}
	}
	return nil
}

func (g *Gateways) describe(to netip.Prefix, route netlink.Route) string {
	text := to.String()
	if link, err := g.Host.LinkByIndex(route.LinkIndex); err == nil {
		text += " on " + link.Attrs().Name
	}
	if hop := nl.Addr(route.Gw); hop.IsValid() {
		text += " by " + hop.String()
	}
	return text
}
