package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/fabric"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// Update writes the flows of what changed.
func (p *Plane) Update(ctx context.Context, delta fabric.Delta) error {
	defer p.begin()()
	if last, known := p.known[delta.Network.ID]; !known || last.stale || p.have == nil {
		return fmt.Errorf("ovs: network %s is to be read back", delta.Network.Label())
	}
	if _, err := p.apply(ctx, delta.Segment, func() (int, error) {
		if delta.Network.Encrypted {
			if err := p.devices.Update(delta); err != nil {
				return 0, err
			}
		}
		return 0, p.change(ctx, delta)
	}); err != nil {
		p.invalidate()
		return fmt.Errorf("ovs: %w", err)
	}
	return nil
}

// change programs what changed of a network that is known.
func (p *Plane) change(ctx context.Context, delta fabric.Delta) error {
	last := p.known[delta.Network.ID]
	want := p.programme(delta.Segment)
	want.peers = last.peers
	if last.stale || last.ports.tunnel != want.ports.tunnel {
		delta.Merge(want.peers)
		_, err := p.program(ctx, delta.Network.ID, want)
		return err
	}
	return p.write(ctx, delta.Network.ID, want, changeOf(last, want, delta), !sameGroups(last, want))
}

// changeOf returns the change of flows from last to want, whose peers are one map, and
// brings delta into it. A port that came or went concerns all peers that share an
// address or a MAC with its endpoint, and those that changed are all that do with theirs.
func changeOf(last, want programme, delta fabric.Delta) vswitch.Change {
	concerned := make(map[string]bool)
	for _, peer := range delta.Put {
		concerned[peer.ID] = true
	}
	for _, endpoint := range delta.Gone {
		concerned[endpoint.ID] = true
	}
	if local := unequal(last.local(), want.local()); len(local) > 0 {
		touched := newIdentities(local)
		for id, peer := range last.peers {
			if touched.include(peer.Endpoint) {
				concerned[id] = true
			}
		}
	}
	ids := slices.Sorted(maps.Keys(concerned))
	before := last.behind(ids)
	delta.Merge(want.peers)
	return between(last, want, before, want.behind(ids))
}
