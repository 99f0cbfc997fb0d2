package routed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Prune deletes the bridges, links and routes of networks that are not kept, and what
// of the tunnel no route needs.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.prune(ctx, keep); err != nil {
		return fmt.Errorf("routed: %w", err)
	}
	return nil
}

func (p *Plane) prune(ctx context.Context, keep []fabric.Segment) error {
	if err := p.readBack(); err != nil {
		return err
	}
	kept := make(map[string]bool)
	var local []fabric.Endpoint
	var networks []fabric.Network
	for _, segment := range keep {
		kept[segment.Network.ID] = true
		networks = append(networks, segment.Network)
		local = append(local, segment.Local...)
	}
	errs := []error{p.pruneRoutes(keep), p.pairsOf("").Prune(local), p.filters.Retain(keep), p.gateways.Prune(ctx, networks)}
	for id := range p.networks {
		if !kept[id] {
			delete(p.networks, id)
		}
	}
	if len(p.networks) == len(keep) { // what is used is known
		p.settled = true
		errs = append(errs, p.pruneTunnel(p.open), p.pruneTunnel(p.sealed), p.allowSenders(), p.fast.Prune(kept))
	}
	return errors.Join(errs...)
}

func (p *Plane) pruneRoutes(keep []fabric.Segment) error {
	var failed nl.Failures
	for id, n := range p.networks {
		if slices.ContainsFunc(keep, func(s fabric.Segment) bool { return s.Network.ID == id }) {
			continue
		}
		for prefix := range n.targets {
			failed.Add(p.remove(n, prefix))
		}
	}
	nobody := &network{} // an earlier run's
	for prefix := range p.table.have {
		if !slices.ContainsFunc(keep, func(s fabric.Segment) bool { return within(s.Network, prefix) }) {
			failed.Add(p.remove(nobody, prefix))
			delete(p.table.lost, prefix)
		}
	}
	return failed.Err()
}

// pruneTunnel deletes the entries of an earlier run, and the device without a use.
func (p *Plane) pruneTunnel(t *tunnel) error {
	if t.index == 0 {
		return nil
	}
	if len(t.uses) == 0 {
		if err := p.kernel.Remove(t.name); err != nil {
			return err
		}
		t.gone()
		return nil
	}
	var failed nl.Failures
	for entry := range t.have {
		if t.uses[entry] == 0 {
			failed.Add(p.deleteEntry(t, entry))
		}
	}
	return failed.Err()
}
