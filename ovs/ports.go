package ovs

import (
	"context"
	"fmt"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Plug makes the pair of endpoint, puts the host's end on the bridge and lets
// its frames in.
func (p *Plane) Plug(ctx context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	if err := p.plug(ctx, segment, endpoint); err != nil {
		p.Distrust()
		return "", fmt.Errorf("ovs: plug endpoint %.12s: %w", endpoint.ID, err)
	}
	return nl.ContainerEnd(endpoint.ID), nil
}

func (p *Plane) plug(ctx context.Context, segment fabric.Segment, endpoint fabric.Endpoint) error {
	if p.have == nil || !p.have.present {
		return errNotApplied
	}
	if err := p.links.pair(endpoint, segment.MTU); err != nil {
		return err
	}
	if p.Datapath == "netdev" {
		if err := p.links.checksumsOff(nl.ContainerEnd(endpoint.ID)); err != nil {
			return err
		}
	}
	if err := p.attach(ctx, segment.Network, []fabric.Endpoint{endpoint}); err != nil {
		return err
	}
	_, err := p.program(ctx, segment.Network.ID, programme{segment: p.wired(segment)})
	return err
}

// attach puts the host's ends of endpoints on the bridge.
func (p *Plane) attach(ctx context.Context, network fabric.Network, endpoints []fabric.Endpoint) error {
	if err := p.vswitch.addPorts(ctx, network, endpoints); err != nil {
		return err
	}
	for _, endpoint := range endpoints {
		p.have.ports[endpoint.ID] = portRow{name: nl.HostEnd(endpoint.ID), network: network.ID, attached: true}
	}
	return nil
}

// connect gives the endpoints that have their pair, and whose port is gone, a
// port again, and forgets the ports whose pair is gone.
func (p *Plane) connect(ctx context.Context, segment *fabric.Segment) (mended int, err error) {
	links, err := p.links.ours()
	if err != nil {
		return 0, err
	}
	var lost []fabric.Endpoint
	for _, endpoint := range segment.Local {
		port, known := p.have.ports[endpoint.ID]
		switch _, there := links[endpoint.ID]; {
		case there && !port.attached:
			lost = append(lost, endpoint)
		case !there && known:
			port.attached = false
			p.have.ports[endpoint.ID] = port
		}
	}
	return len(lost), p.attach(ctx, segment.Network, lost)
}

// disconnect removes the network's ports, and their pairs, that keep lacks.
func (p *Plane) disconnect(ctx context.Context, network string, keep []fabric.Endpoint) error {
	kept := make(map[string]bool, len(keep))
	for _, endpoint := range keep {
		kept[endpoint.ID] = true
	}
	for endpoint, port := range p.have.ports {
		if port.network != network || kept[endpoint] {
			continue
		}
		if err := p.unplug(ctx, endpoint, port); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plane) unplug(ctx context.Context, endpoint string, port portRow) error {
	if err := p.vswitch.deletePort(ctx, port.name); err != nil {
		return err
	}
	delete(p.have.ports, endpoint)
	links, err := p.links.ours()
	if err != nil {
		return err
	}
	if link, there := links[endpoint]; there {
		return p.links.Remove(link.Attrs().Name)
	}
	return nil
}

// Alive tells which local endpoints have a container.
func (p *Plane) Alive(_ context.Context, segment fabric.Segment) (map[string]bool, error) {
	links, err := p.links.ours()
	if err != nil {
		return nil, fmt.Errorf("ovs: %w", err)
	}
	alive := make(map[string]bool, len(segment.Local))
	for _, endpoint := range segment.Local {
		link, there := links[endpoint.ID]
		alive[endpoint.ID] = there && taken(link)
	}
	return alive, nil
}

// Prune removes ports, pairs, flows and tunnel ports of networks that are not
// kept; with the last network the bridge goes, if we made it and nobody else
// has a port on it. Without a running switch there is nothing to remove.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	if p.vswitch.missing() != nil {
		return nil
	}
	if err := p.prune(ctx, keep); err != nil {
		p.Distrust()
		return fmt.Errorf("ovs: %w", err)
	}
	return nil
}

func (p *Plane) prune(ctx context.Context, keep []fabric.Segment) error {
	if err := p.look(ctx); err != nil {
		return err
	}
	endpoints, tunnels := make(map[string]bool), make(map[string]bool)
	for _, segment := range keep {
		tunnels[tunnelPort(segment.Network)] = true
		for _, endpoint := range segment.Local {
			endpoints[endpoint.ID] = true
		}
	}
	for endpoint, port := range p.have.ports {
		if endpoints[endpoint] {
			continue
		}
		if err := p.unplug(ctx, endpoint, port); err != nil {
			return err
		}
	}
	if err := p.pruneLinks(endpoints); err != nil {
		return err
	}
	if err := p.pruneFlows(ctx, keep); err != nil {
		return err
	}
	for name := range p.have.tunnels {
		if tunnels[name] {
			continue
		}
		if err := p.vswitch.deletePort(ctx, name); err != nil {
			return err
		}
		delete(p.have.tunnels, name)
	}
	return p.pruneBridge(ctx, len(keep))
}

// pruneLinks removes pairs that have lost their port.
func (p *Plane) pruneLinks(keep map[string]bool) error {
	links, err := p.links.ours()
	if err != nil {
		return err
	}
	for endpoint, link := range links {
		if keep[endpoint] {
			continue
		}
		if err := p.links.Remove(link.Attrs().Name); err != nil {
			return err
		}
	}
	return nil
}

// pruneFlows removes the flows of networks that are not kept. Every network on
// the switch has flows in the flood table, so that is the one to look at.
func (p *Plane) pruneFlows(ctx context.Context, keep []fabric.Segment) error {
	kept := []uint64{}
	ids := make(map[string]bool, len(keep))
	for _, segment := range keep {
		kept = append(kept, cookieOf(segment.Network))
		ids[segment.Network.ID] = true
	}
	for id := range p.known {
		if id != static && !ids[id] {
			delete(p.known, id)
		}
	}
	if !p.have.present {
		return nil
	}
	flood, err := p.vswitch.dumpFlows(ctx, cookieOurs, cookieMask, fmt.Sprintf("table=%d", tableFlood))
	if err != nil {
		return err
	}
	for _, f := range flood {
		if slices.Contains(kept, f.cookie) {
			continue
		}
		kept = append(kept, f.cookie) // gone with this, whatever table it is in
		if err := p.vswitch.deleteCookie(ctx, f.cookie); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plane) pruneBridge(ctx context.Context, keep int) error {
	if keep > 0 || !p.have.present {
		return nil
	}
	delete(p.known, static)
	if !p.have.made || p.have.foreign > 1 { // one is the bridge's own
		return p.vswitch.deleteCookie(ctx, cookieOurs)
	}
	if err := p.vswitch.client(ctx).VSwitch.DeleteBridge(p.Bridge); err != nil {
		return fmt.Errorf("delete bridge %s: %w", p.Bridge, cause(err))
	}
	p.have.present, p.have.made = false, false
	return nil
}
