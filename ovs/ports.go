package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Plug creates the pair of endpoint, puts the host's end on the bridge and
// writes the network's flows.
func (p *Plane) Plug(ctx context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	defer p.begin()()
	if err := p.plug(ctx, segment, endpoint); err != nil {
		p.invalidate()
		return "", fmt.Errorf("ovs: plug endpoint %.12s: %w", endpoint.ID, err)
	}
	return nl.ContainerEnd(endpoint.ID), nil
}

func (p *Plane) plug(ctx context.Context, segment fabric.Segment, endpoint fabric.Endpoint) error {
	if _, known := p.known[segment.Network.ID]; !known {
		return errNotApplied
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	if !p.have.present {
		return errNotApplied
	}
	if err := p.links.pair(endpoint, segment.MTU); err != nil {
		return err
	}
	if p.have.datapath == "netdev" {
		if err := p.links.checksumsOff(nl.ContainerEnd(endpoint.ID)); err != nil {
			return err
		}
	}
	if err := p.attach(ctx, segment.Network, []fabric.Endpoint{endpoint}); err != nil {
		return err
	}
	segment.Flood = p.known[segment.Network.ID].segment.Flood
	return p.change(ctx, fabric.Delta{Segment: segment})
}

// attach puts the host's ends of endpoints on the bridge.
func (p *Plane) attach(ctx context.Context, network fabric.Network, endpoints []fabric.Endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	var names []string
	for _, endpoint := range endpoints {
		names = append(names, nl.HostEnd(endpoint.ID))
	}
	if p.have.datapath == "netdev" {
		if _, err := p.links.filterHost(names, never); err != nil {
			return err
		}
	}
	if err := p.vswitch.AddPorts(ctx, network, endpoints); err != nil {
		return err
	}
	rows, err := p.vswitch.Attached(ctx, names...)
	if err != nil {
		return err
	}
	for _, endpoint := range endpoints {
		name := nl.HostEnd(endpoint.ID)
		p.have.ports[endpoint.ID] = portRow{name: name, network: network.ID, container: endpoint.Name, number: rows[name].Port}
	}
	return nil
}

// connect recreates the ports of endpoints that have their pair but no port, raises pairs
// that are sunk, and notes the ports whose pair is gone.
func (p *Plane) connect(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	ends, err := p.links.pairs.List()
	if err != nil {
		return 0, err
	}
	var lost []fabric.Endpoint
	for _, endpoint := range segment.Local {
		port, known := p.have.ports[endpoint.ID]
		end, there := ends[nl.HostEnd(endpoint.ID)]
		if there && sunk(end, segment.MTU) {
			if err := p.links.raise(end, segment.MTU); err != nil {
				return repaired, fmt.Errorf("endpoint %.12s: %w", endpoint.ID, err)
			}
			repaired++
		}
		switch {
		case there && port.number == 0:
			lost = append(lost, endpoint)
		case !there && known:
			port.number = 0
			p.have.ports[endpoint.ID] = port
		}
	}
	return repaired + len(lost), p.attach(ctx, segment.Network, lost)
}

// label writes the containers' names to the ports: a name is known only after
// its container has come up.
func (p *Plane) label(ctx context.Context, segment fabric.Segment) error {
	names := make(map[string]string) // by port
	for _, endpoint := range segment.Local {
		port := p.have.ports[endpoint.ID]
		if port.number == 0 || endpoint.Name == "" || endpoint.Name == port.container {
			continue
		}
		names[port.name] = endpoint.Name
		port.container = endpoint.Name
		p.have.ports[endpoint.ID] = port
	}
	if len(names) == 0 {
		return nil
	}
	return p.vswitch.Label(ctx, names)
}

// disconnect deletes the network's ports, and their pairs, that the segment lacks.
func (p *Plane) disconnect(ctx context.Context, segment fabric.Segment) error {
	kept := make(map[string]bool, len(segment.Local))
	for _, endpoint := range segment.Local {
		kept[endpoint.ID] = true
	}
	return p.unplug(ctx, func(endpoint string, port portRow) bool {
		return port.network == segment.Network.ID && !kept[endpoint]
	})
}

// unplug deletes the ports for which gone is true, and their pairs.
func (p *Plane) unplug(ctx context.Context, gone func(endpoint string, port portRow) bool) error {
	var names []string
	for endpoint, port := range p.have.ports {
		if gone(endpoint, port) {
			names = append(names, port.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := p.vswitch.DeletePorts(ctx, names...); err != nil {
		return err
	}
	maps.DeleteFunc(p.have.ports, gone)
	for _, name := range names {
		if err := p.links.Remove(name); err != nil {
			return err
		}
	}
	_, err := p.links.filterHost(nil, func(port string) bool { return slices.Contains(names, port) })
	return err
}

// Alive tells which local endpoints have a container.
func (p *Plane) Alive(ctx context.Context, segment fabric.Segment) (map[string]bool, error) {
	alive, err := p.links.pairs.Alive(ctx, segment.Local)
	if err != nil {
		return nil, fmt.Errorf("ovs: %w", err)
	}
	return alive, nil
}
