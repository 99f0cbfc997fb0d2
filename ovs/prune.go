package ovs

import (
	"context"
	"fmt"
	"slices"

	"github.com/causeway-net/causeway/fabric"
)

// Prune removes ports, pairs, flows and tunnel ports of networks that are not
// kept; with the last network the bridge goes, if we made it and nobody else
// has a port or a flow on it. Without a running switch there is nothing to remove,
// and from one that does not answer nothing can be.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	if p.missing(ctx) != nil {
		return nil
	}
	if err := p.prune(ctx, keep); err != nil {
		p.Invalidate()
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
	if err := p.vswitch.deleteCookie(ctx, cookieOurs); err != nil {
		return err
	}
	others, err := p.vswitch.dumpFlows(ctx, 0, 0, "")
	if err != nil {
		return err
	}
	const internal = 254 // Open vSwitch's own table, which some versions show
	theirs := slices.ContainsFunc(others, func(f flow) bool { return f.table != internal })
	if theirs || p.have.foreign > 0 || !p.have.made {
		return nil
	}
	if err := p.vswitch.client(ctx).VSwitch.DeleteBridge(p.Bridge); err != nil {
		return fmt.Errorf("delete bridge %s: %w", p.Bridge, cause(err))
	}
	p.have.present, p.have.made, p.have.right = false, false, false
	p.Log.WithField("bridge", p.Bridge).Info("no network needs the Open vSwitch bridge any more; it is deleted")
	return nil
}
