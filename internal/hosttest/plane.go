package hosttest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/causeway-net/causeway/fabric"
)

// Plane is a data plane that records its calls. What the real ones do to a kernel is
// tested in their packages and end to end.
type Plane struct {
	mu       sync.Mutex
	segments map[string]fabric.Segment // without their peers
	remote   map[string]map[string]fabric.Peer
	State
	drifted func(network string)
}

// State is what [Plane.Set] may look at and change.
type State struct {
	Plugged map[string]bool
	Living  map[string]bool // endpoints that have a container
	Fault   error           // of each Apply and Update
	Block   <-chan struct{} // each Apply and Update waits for it
	Pruning error           // of each Prune
	Applies map[string]int  // Applies and Updates, by network
	Updates map[string]int  // Updates alone
	Prunes  int
	Fewest  map[string]int // local endpoints that a network was ever applied with
	Checked fabric.Network // what Check was last asked
}

// NewPlane makes a Plane.
func NewPlane() *Plane {
	return &Plane{segments: map[string]fabric.Segment{}, remote: map[string]map[string]fabric.Peer{}, State: State{
		Plugged: map[string]bool{}, Living: map[string]bool{}, Applies: map[string]int{}, Updates: map[string]int{}, Fewest: map[string]int{},
	}}
}

// Check implements [fabric.Dataplane].
func (p *Plane) Check(_ context.Context, n fabric.Network) error {
	p.Set(func(s *State) { s.Checked = n })
	if n.VNI == 4444 {
		return errors.New("vni 4444 is in use by docker's overlay")
	}
	return nil
}

// Apply implements [fabric.Dataplane].
func (p *Plane) Apply(ctx context.Context, s fabric.Segment) (int, error) {
	remote := make(map[string]fabric.Peer, len(s.Remote))
	for _, peer := range s.Remote {
		remote[peer.ID] = peer
	}
	s.Remote = nil
	return 0, p.take(ctx, s, func(*State) map[string]fabric.Peer { return remote })
}

// Update implements [fabric.Dataplane].
func (p *Plane) Update(ctx context.Context, d fabric.Delta) error {
	applied := false
	p.Set(func(*State) { _, applied = p.segments[d.Network.ID] })
	if !applied {
		return errors.New("changed before it was applied")
	}
	return p.take(ctx, d.Segment, func(s *State) map[string]fabric.Peer {
		s.Updates[d.Network.ID]++
		d.Merge(p.remote[d.Network.ID])
		return p.remote[d.Network.ID]
	})
}

func (p *Plane) take(ctx context.Context, s fabric.Segment, remote func(*State) map[string]fabric.Peer) error {
	p.mu.Lock()
	block := p.Block
	p.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.Network.ID
	p.Applies[id]++
	if p.Fault != nil {
		return p.Fault
	}
	p.segments[id], p.remote[id] = s, remote(&p.State)
	if fewest, known := p.Fewest[id]; !known || len(s.Local) < fewest {
		p.Fewest[id] = len(s.Local)
	}
	return nil
}

// Plug implements [fabric.Dataplane].
func (p *Plane) Plug(_ context.Context, s fabric.Segment, e fabric.Endpoint) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, applied := p.segments[s.Network.ID]; !applied {
		return "", errors.New("plugged before it was applied")
	}
	p.Plugged[e.ID], p.Living[e.ID] = true, true
	return fabric.DeviceName("cwc", e.ID), nil
}

// Gateways implements [fabric.Dataplane]: those of the network's record.
func (p *Plane) Gateways(s fabric.Segment) []netip.Addr {
	var gateways []netip.Addr
	for _, subnet := range s.Network.Subnets {
		gateways = append(gateways, subnet.Gateway)
	}
	return gateways
}

// Alive implements [fabric.Dataplane].
func (p *Plane) Alive(_ context.Context, s fabric.Segment) (map[string]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := map[string]bool{}
	for _, e := range s.Local {
		alive[e.ID] = p.Living[e.ID]
	}
	return alive, nil
}

// Inspect implements [fabric.Dataplane]: it says that the last Apply failed.
func (p *Plane) Inspect(context.Context, fabric.Segment) (found []string, err error) {
	p.Set(func(s *State) {
		if s.Fault != nil {
			found = []string{s.Fault.Error()}
		}
	})
	return found, nil
}

// Prune implements [fabric.Dataplane].
func (p *Plane) Prune(_ context.Context, keep []fabric.Segment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Prunes++
	if p.Pruning != nil {
		return p.Pruning
	}
	for id := range p.segments {
		if !slices.ContainsFunc(keep, func(s fabric.Segment) bool { return s.Network.ID == id }) {
			delete(p.segments, id)
			delete(p.remote, id)
		}
	}
	return nil
}

// Invalidate implements [fabric.Dataplane].
func (p *Plane) Invalidate() {}

// Watch implements [fabric.Dataplane]: Drift tells.
func (p *Plane) Watch(ctx context.Context, drifted func(network string)) error {
	p.Set(func(*State) { p.drifted = drifted })
	<-ctx.Done()
	return ctx.Err()
}

// Drift says that others have changed what was made for a network; false before
// anybody watches.
func (p *Plane) Drift(network string) bool {
	p.mu.Lock()
	drifted := p.drifted
	p.mu.Unlock()
	if drifted != nil {
		drifted(network)
	}
	return drifted != nil
}

// Segment is what a network was applied as last.
func (p *Plane) Segment(id string) (fabric.Segment, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.segments[id]
	s.Remote = slices.SortedFunc(maps.Values(p.remote[id]), func(a, b fabric.Peer) int { return cmp.Compare(a.ID, b.ID) })
	return s, ok
}

// Set changes or reads the Plane's state.
func (p *Plane) Set(change func(*State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.State)
}
