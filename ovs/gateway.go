package ovs

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/nl"
)

// The network's gateway (package gateway) is one more port of the bridge: a pair whose other
// end is the host's. Its frames go to local containers alone, as those of a tunnel do, and
// those of containers reach it, but none of a tunnel. So every host has it, and none hears
// of another's.

// withGateway adds the gateway to the local endpoints of a segment, if this host has it.
func (p *Plane) withGateway(segment fabric.Segment) fabric.Segment {
	if place, ok := p.places[segment.Network.ID]; ok {
		index, _ := slices.BinarySearchFunc(segment.Local, place.ID, func(e fabric.Endpoint, id string) int { return strings.Compare(e.ID, id) })
		segment.Local = slices.Insert(slices.Clone(segment.Local), index, place)
	}
	return segment
}

// ensureGateway has the gateway's pair and port, and the host's end equipped, once after
// each look at the switch. Where this host can't have the gateway, it forgets it:
// disconnect deletes its port. A failure keeps no container from the network.
func (p *Plane) ensureGateway(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	id := segment.Network.ID
	if p.have.gateways[id] {
		return 0, nil
	}
	wanted, ok := p.gateways.Admit(segment.Network)
	if !ok {
		delete(p.places, id)
		p.have.gateways[id] = true
		return 0, nil
	}
	wanted.MTU = segment.MTU
	p.places[id] = wanted.Endpoint()
	if err := p.plugGateway(ctx, segment.Network, wanted); err != nil {
		return 0, fmt.Errorf("%w: gateway: %w", fabric.ErrPartial, err)
	}
	if repaired, err = p.gateways.Ensure(ctx, wanted); err != nil {
		return 0, fmt.Errorf("%w: %w", fabric.ErrPartial, err)
	}
	p.have.gateways[id] = true
	return repaired, nil
}

func (p *Plane) plugGateway(ctx context.Context, network fabric.Network, wanted gateway.Gateway) error {
	place := wanted.Endpoint()
	pair := nl.Pair{
		Endpoint: place.ID, MAC: place.MAC, MTU: wanted.MTU, HostMTU: wanted.MTU, Alias: aliasPrefix + place.ID, Link: wanted.Link,
	}
	if link, err := p.links.Link(wanted.Link); err == nil {
		pair.MTU = link.Attrs().MTU // Ensure sets another: it is not created anew for that
	}
	before, _ := p.links.Link(nl.HostEnd(place.ID))
	end, err := pair.Ensure(p.links.Handle, p.links.Handle)
	if err != nil {
		return err
	}
	fresh := before == nil || before.Attrs().Index != end.Attrs().Index
	if fresh && p.have.datapath == "netdev" {
		if err := p.links.checksumsOff(wanted.Link); err != nil {
			return err
		}
	}
	port, known := p.have.ports[place.ID]
	if known && fresh { // the switch would keep the device that is gone
		if err := p.vswitch.DeletePorts(ctx, port.name); err != nil {
			return err
		}
	}
	if port.number == 0 || fresh {
		return p.attach(ctx, network, []fabric.Endpoint{place})
	}
	return nil
}

// Gateways gives the addresses of the network's gateway, if this host has it.
func (p *Plane) Gateways(segment fabric.Segment) []netip.Addr {
	return p.gateways.Up(segment.Network.ID)
}

// gateway lets the host's frames in, as those of a tunnel: reg1 keeps them from leaving
// through one.
func (w *writer) gateway(e fabric.Endpoint, number int) {
	w.add(tableClassify, 100, fmt.Sprintf("in_port=%d,dl_src=%s", number, e.MAC), w.entered(tableNeighbours))
	w.add(tableLocal, 100, fmt.Sprintf("reg0=%#x,reg1=0,dl_dst=%s", w.vni, e.MAC), output(number))
}
