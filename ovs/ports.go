package ovs

import (
	"context"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Plug makes the pair of endpoint, puts the host's end on the bridge and lets
// its frames in.
func (p *Plane) Plug(ctx context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	if err := p.plug(ctx, segment, endpoint); err != nil {
		p.Invalidate()
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
	_, err := p.program(ctx, segment.Network.ID, p.programme(segment))
	return err
}

// attach puts the host's ends of endpoints on the bridge.
func (p *Plane) attach(ctx context.Context, network fabric.Network, endpoints []fabric.Endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	if err := p.vswitch.addPorts(ctx, network, endpoints); err != nil {
		return err
	}
	var names []string
	for _, endpoint := range endpoints {
		names = append(names, nl.HostEnd(endpoint.ID))
	}
	rows, err := p.vswitch.taken(ctx, names...)
	if err != nil {
		return err
	}
	for _, endpoint := range endpoints {
		name := nl.HostEnd(endpoint.ID)
		p.have.ports[endpoint.ID] = portRow{name: name, network: network.ID, container: endpoint.Name, number: rows[name].Port}
	}
	return nil
}

// connect gives the endpoints that have their pair, and whose port is gone, a
// port again, and forgets the ports whose pair is gone.
func (p *Plane) connect(ctx context.Context, segment fabric.Segment) (mended int, err error) {
	links, err := p.links.ours()
	if err != nil {
		return 0, err
	}
	var lost []fabric.Endpoint
	for _, endpoint := range segment.Local {
		port, known := p.have.ports[endpoint.ID]
		switch _, there := links[endpoint.ID]; {
		case there && port.number == 0:
			lost = append(lost, endpoint)
		case !there && known:
			port.number = 0
			p.have.ports[endpoint.ID] = port
		}
	}
	return len(lost), p.attach(ctx, segment.Network, lost)
}

// label writes the containers' names to the ports: a name is known only after
// its container has come up.
func (p *Plane) label(ctx context.Context, segment fabric.Segment) error {
	for _, endpoint := range segment.Local {
		port := p.have.ports[endpoint.ID]
		if port.number == 0 || endpoint.Name == "" || endpoint.Name == port.container {
			continue
		}
		if err := p.vswitch.label(ctx, port.name, endpoint.Name); err != nil {
			return err
		}
		port.container = endpoint.Name
		p.have.ports[endpoint.ID] = port
	}
	return nil
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
