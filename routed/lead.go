package routed

import (
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/fastpath"
	"github.com/causeway-net/causeway/internal/gateway"
)

// What of a network is led past the host's forwarding (internal/fastpath): connections
// between hosts on one link, and on this host. The rest needs what the stack alone does.

// leads says that connections of a network are: it is not encrypted, its containers send as
// themselves alone, what they get is not slowed down, and the host's owner does not forbid it.
func (p *Plane) leads(network fabric.Network) bool {
	return !p.StackOnly && !network.Encrypted && !network.Spoofing && network.Rate == 0
}

// lead has connections to a prefix take the route's way, or none where it is not suited.
// What a container of this host has, leads there.
func (p *Plane) lead(n *network, prefix netip.Prefix, to target) error {
	if _, here := n.here[prefix]; here {
		return nil
	}
	if to.tunnel != nil || !to.via.IsValid() || !p.leads(n.segment.Network) || p.mtuOf(to.link) == 0 {
		return p.fast.Remove(prefix)
	}
	p.fast.Put(prefix, fastpath.Way{Network: n.segment.Network.ID, Link: int(to.link), MTU: p.mtuOf(to.link), Via: to.via})
	return nil
}

// mtuOf gives the MTU of a link that leads to other hosts, 0 for one that is not suited.
func (p *Plane) mtuOf(index int32) int {
	if mtu, known := p.mtus[index]; known {
		return mtu
	}
	mtu := 0
	if link, err := p.kernel.LinkByIndex(int(index)); err == nil && fastpath.Suits(link) {
		mtu = link.Attrs().MTU
	}
	p.mtus[index] = mtu
	return mtu
}

// leadHere has connections to the network's containers on this host lead to them, and to
// those that are gone no longer.
func (p *Plane) leadHere(n *network) error {
	var ways map[netip.Prefix]fastpath.Way
	if p.leads(n.segment.Network) {
		ways = n.waysHere()
	}
	for prefix := range n.here {
		if _, still := ways[prefix]; still {
			continue
		}
		delete(n.here, prefix)
		if err := p.lead(n, prefix, n.targets[prefix]); err != nil {
			return err
		}
	}
	for prefix, way := range ways {
		n.here[prefix] = way
		p.fast.Put(prefix, way)
	}
	return nil
}

// waysHere leaves out an address that two have.
func (n *network) waysHere() map[netip.Prefix]fastpath.Way {
	ways := make(map[netip.Prefix]fastpath.Way)
	ends := make(map[string]int) // by endpoint
	for index, port := range n.ports {
		ends[port.Rule.Endpoint] = index
	}
	doubled := make(map[netip.Prefix]bool)
	at, _ := gateway.Of(n.segment.Network)
	for _, endpoint := range n.segment.Local {
		end, plugged := ends[endpoint.ID]
		for _, addr := range endpoint.Addrs {
			prefix := netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen())
			if _, taken := ways[prefix]; taken || !plugged {
				doubled[prefix] = true
			}
			ways[prefix] = fastpath.Way{Network: n.segment.Network.ID, Link: end, MTU: n.segment.MTU, MAC: endpoint.MAC, Gateway: at.MAC}
		}
	}
	for prefix := range doubled {
		delete(ways, prefix)
	}
	return ways
}

// readAll reads what all networks share after Invalidate, and counts the links that lack
// the programs which lead past the stack.
func (p *Plane) readAll() (repaired int, err error) {
	if p.fresh {
		return 0, nil
	}
	if err := p.readBack(); err != nil {
		return 0, err
	}
	return p.fast.Mend()
}

// LedPast tells what of a network was led past its bridge, which has not counted it.
func (p *Plane) LedPast(network string) fastpath.Counted { return p.fast.Counted(network) }
