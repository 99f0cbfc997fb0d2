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
	"github.com/causeway-net/causeway/internal/tcpprobe"
	"github.com/causeway-net/causeway/nicmove"
)

// questions are what must answer after a move if it did before: the gateways
// behind the device, on the wire and through the host's own stack and firewall;
// the host itself, to new connections from there; and what the caller gave.
func (p *Plane) questions(device, nic string) (questions []nicmove.Question, done func()) {
	questions, done = slices.Clone(p.Confirm), func() {}
	link, err := p.kernel.Link(device)
	if err != nil {
		return questions, done
	}
	gateways := p.gateways(link)
	for _, gateway := range gateways {
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
	if len(gateways) == 0 {
		return questions, done
	}
	port, err := p.kernel.Link(nic)
	if err != nil {
		return questions, done
	}
	prober, err := tcpprobe.Open(p.kernel.NS(), port)
	if err != nil {
		if device == nic { // once, before the move
			p.Log.WithError(err).Warnf("new connections to this host are not tried when %s is moved", nic)
		}
		return questions, done
	}
	for _, gateway := range gateways {
		questions = append(questions, p.connections(prober, link, gateway)...)
	}
	return questions, func() {
		if err := prober.Close(); err != nil {
			p.Log.WithError(err).Warn("close the TCP prober")
		}
	}
}

// maxPorts is how many ports are probed: the lowest, which are the services'.
const maxPorts = 8

// connections are the TCP ports that the host listens on, for a machine beside it.
func (p *Plane) connections(prober *tcpprobe.Prober, link netlink.Link, from netip.Addr) (questions []nicmove.Question) {
	addresses, err := p.kernel.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	for _, address := range addresses {
		to := nl.Addr(address.IP)
		if to.Is4() != from.Is4() || !to.IsGlobalUnicast() {
			continue
		}
		ports, err := tcpprobe.Listening(p.kernel.NS(), to)
		if err != nil {
			p.Log.WithError(err).Debug("new connections are not tried")
		}
		for _, port := range ports[:min(len(ports), maxPorts)] {
			at := netip.AddrPortFrom(to, port)
			questions = append(questions, nicmove.Question{
				Name: fmt.Sprintf("TCP %s (to new connections)", at),
				Ask:  func(ctx context.Context) error { return prober.Probe(ctx, from, at) },
			})
		}
		return questions
	}
	return questions
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
