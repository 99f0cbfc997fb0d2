package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/nl"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// Prune deletes ports, pairs, flows, groups and tunnel ports of networks that are
// not kept; with the last network it deletes the bridge, if we created it and
// no others have a port, a flow or a group on it. Without a running switch there is nothing to delete,
// and from one that does not answer nothing can be.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	if p.missing(ctx) != nil {
		return nil
	}
	defer p.begin()()
	if err := p.prune(ctx, keep); err != nil {
		p.invalidate()
		return fmt.Errorf("ovs: %w", err)
	}
	return nil
}

func (p *Plane) prune(ctx context.Context, keep []fabric.Segment) error {
	if err := p.look(ctx); err != nil {
		return err
	}
	var endpoints []fabric.Endpoint
	kept, tunnels, ids := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	var networks []fabric.Network
	for _, segment := range keep {
		networks = append(networks, segment.Network)
		ids[segment.Network.ID] = true
		tunnels[tunnelPort(segment.Network)] = true
		local := segment.Local
		if wanted, ok := gateway.Of(segment.Network); ok {
			local = append(slices.Clone(local), wanted.Endpoint())
		}
		endpoints = append(endpoints, local...)
		for _, endpoint := range local {
			kept[endpoint.ID] = true
		}
	}
	maps.DeleteFunc(p.places, func(_ string, place fabric.Endpoint) bool { return !kept[place.ID] })
	maps.DeleteFunc(p.have.gateways, func(id string, _ bool) bool { return !ids[id] })
	if err := p.unplug(ctx, func(endpoint string, _ portRow) bool { return !kept[endpoint] }); err != nil {
		return err
	}
	if err := p.gateways.Prune(ctx, networks); err != nil {
		return err
	}
	if err := p.links.pairs.Prune(endpoints); err != nil { // those that have lost their port
		return err
	}
	if err := p.pruneTunnels(ctx, tunnels); err != nil {
		return err
	}
	if err := p.devices.Prune(keep); err != nil {
		return err
	}
	names := maps.Clone(tunnels)
	for _, endpoint := range endpoints {
		names[nl.HostEnd(endpoint.ID)] = true
	}
	if _, err := p.links.filterHost(nil, func(port string) bool { return !names[port] }); err != nil {
		return err
	}
	if err := p.pruneFlows(ctx, keep, ids); err != nil {
		return err
	}
	if err := p.pruneGroups(ctx, keep); err != nil {
		return err
	}
	if err := p.pruneMeters(ctx); err != nil {
		return err
	}
	return p.pruneBridge(ctx, len(keep))
}

func (p *Plane) pruneTunnels(ctx context.Context, kept map[string]bool) error {
	gone := func(name string, _ vswitch.Interface) bool { return !kept[name] }
	var names []string
	for name, row := range p.have.tunnels {
		if gone(name, row) {
			names = append(names, name)
		}
	}
	if err := p.vswitch.DeletePorts(ctx, names...); err != nil {
		return err
	}
	maps.DeleteFunc(p.have.tunnels, gone)
	return nil
}

// pruneFlows deletes the flows of networks that are not kept. Every network on
// the switch has flows in the flood table, so that one is read.
func (p *Plane) pruneFlows(ctx context.Context, keep []fabric.Segment, ids map[string]bool) error {
	kept := []uint64{}
	for _, segment := range keep {
		kept = append(kept, cookieOf(segment.Network))
	}
	for id := range p.known {
		if id != static && !ids[id] {
			delete(p.known, id)
		}
	}
	p.neighbours.keep(ids)
	if !p.have.present {
		return nil
	}
	flood, err := p.vswitch.DumpFlows(ctx, cookieOurs, cookieMask, fmt.Sprintf("table=%d", tableFlood))
	if err != nil {
		return err
	}
	for _, f := range flood {
		if slices.Contains(kept, f.Cookie) {
			continue
		}
		kept = append(kept, f.Cookie) // gone with this, whatever table it is in
		if err := p.vswitch.DeleteCookie(ctx, f.Cookie); err != nil {
			return err
		}
	}
	return nil
}

// pruneGroups deletes the groups of networks that are not kept.
func (p *Plane) pruneGroups(ctx context.Context, keep []fabric.Segment) error {
	kept := make(map[uint32]bool, len(keep))
	for _, segment := range keep {
		kept[segment.Network.VNI] = true
	}
	var c vswitch.Change
	for id := range p.have.groups {
		if !kept[id&vniMask] {
			c.RemoveGroups = append(c.RemoveGroups, id)
		}
	}
	if err := p.vswitch.Write(ctx, c); err != nil {
		return err
	}
	for _, id := range c.RemoveGroups {
		delete(p.have.groups, id)
	}
	return nil
}

func (p *Plane) pruneBridge(ctx context.Context, keep int) error {
	if keep > 0 || !p.have.present {
		return nil
	}
	delete(p.known, static)
	if err := p.vswitch.DeleteCookie(ctx, cookieOurs); err != nil {
		return err
	}
	others, err := p.vswitch.DumpFlows(ctx, 0, 0, "")
	if err != nil {
		return err
	}
	const internal = 254 // Open vSwitch's own table, which some versions show
	theirs := slices.ContainsFunc(others, func(f vswitch.Flow) bool { return f.Table != internal })
	if theirs || p.have.foreign > 0 || !p.have.made {
		return nil
	}
	if err := p.vswitch.DeleteBridge(ctx); err != nil {
		return err
	}
	without := newInventory()
	without.tunnels, without.ports, without.internal = p.have.tunnels, p.have.ports, p.have.internal
	p.have = without
	p.Log.WithField("bridge", p.Bridge).Info("no network needs the Open vSwitch bridge any more; it is deleted")
	return nil
}
