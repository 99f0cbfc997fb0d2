package ovs

import (
	"context"
	"errors"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/vswitch"
)

// Inspect says which flows and ports are not as the segment wants them.
func (p *Plane) Inspect(ctx context.Context, segment fabric.Segment) ([]string, error) {
	defer p.begin()()
	found, err := p.inspect(ctx, segment)
	if errors.Is(err, vswitch.ErrUnresponsive) {
		err = vswitch.ErrUnresponsive
	}
	if err != nil {
		return nil, fmt.Errorf("ovs: %w", err)
	}
	return found, nil
}

func (p *Plane) inspect(ctx context.Context, segment fabric.Segment) (found []string, err error) {
	if err := p.missing(ctx); err != nil {
		return nil, err
	}
	last, known := p.known[segment.Network.ID]
	if !known {
		return []string{"the network was not applied yet"}, nil
	}
	want := newProgramme(p.withGateway(segment), last.ports)
	rows, err := p.vswitch.Interfaces(ctx)
	if err != nil {
		return nil, err
	}
	have := newInventory()
	for _, row := range rows {
		have.sort(row, true)
	}
	if have.tunnels[tunnelPort(segment.Network)].Port <= 0 {
		found = append(found, "the tunnel's port "+tunnelPort(segment.Network)+" is not there")
	}
	if segment.Network.Encrypted {
		flaws, err := p.devices.Inspect(segment)
		if err != nil {
			return nil, err
		}
		found = append(found, flaws...)
	}
	for id, number := range last.ports.local {
		if there := have.ports[id].number; there != number {
			found = append(found, fmt.Sprintf("the port of endpoint %.12s is number %d in place of %d", id, there, number))
		}
	}
	flows, err := p.vswitch.DumpFlows(ctx, cookieOf(segment.Network), ^uint64(0), "")
	if err != nil {
		return nil, err
	}
	change := vswitch.ChangeOf(flows, want.flows())
	for _, flow := range change.Add {
		found = append(found, "missing: flow "+flow.String())
	}
	for _, flow := range change.Remove {
		found = append(found, "not ours: flow "+flow.String())
	}
	return found, nil
}
