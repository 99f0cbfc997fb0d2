package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/nicmove"
)

// questions are what must answer after a move if it did before: the gateways
// behind the device, on the wire and through the host's own stack and firewall,
// and what the caller gave.
func (p *Plane) questions(device string) []nicmove.Question {
	link, err := p.kernel.Link(device)
	if err != nil {
		return p.Confirm
	}
	var questions []nicmove.Question
	for _, gateway := range p.gateways(link) {
		questions = append(questions,
			nicmove.Question{
				Name: fmt.Sprintf("the gateway %s (by ARP)", gateway),
				Ask:  func(ctx context.Context) error { return p.askNeighbour(ctx, link, gateway) },
			},
			nicmove.Question{
				Name: fmt.Sprintf("the gateway %s (by ping)", gateway),
				Ask:  func(ctx context.Context) error { return ping(ctx, p.kernel.NS(), link, gateway) },
			})
	}
	return append(questions, p.Confirm...)
}

// gateways lists those of the default routes that leave through link.
func (p *Plane) gateways(link netlink.Link) []netip.Addr {
	routes, err := p.kernel.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		p.Log.WithError(err).Warn("list routes")
	}
	seen := make(map[netip.Addr]bool)
	var gateways []netip.Addr
	add := func(index int, gateway netip.Addr) {
		if index == link.Attrs().Index && gateway.IsValid() && !seen[gateway] {
			seen[gateway] = true
			gateways = append(gateways, gateway)
		}
	}
	for _, route := range routes {
		if route.Dst != nil && !route.Dst.IP.IsUnspecified() || route.Table != unix.RT_TABLE_MAIN {
			continue
		}
		add(route.LinkIndex, nl.Addr(route.Gw))
		for _, hop := range route.MultiPath {
			add(hop.LinkIndex, nl.Addr(hop.Gw))
		}
	}
	slices.SortFunc(gateways, netip.Addr.Compare)
	return gateways
}

func (p *Plane) askNeighbour(ctx context.Context, link netlink.Link, addr netip.Addr) error {
	_, there, err := addrprobe.Probe(ctx, p.kernel.NS(), link, addr)
	if err == nil && !there {
		err = errors.New("no answer")
	}
	return err
}
