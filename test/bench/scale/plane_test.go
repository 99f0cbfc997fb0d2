package scale

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
)

// plane is a data plane that notes when it was given what.
type plane struct {
	arrivals *arrivals
	host     string

	mu      sync.Mutex
	applied map[string]int // how many endpoints each network was applied with last, by Apply
}

func (p *plane) Check(context.Context, fabric.Network) error { return nil }

func (p *plane) Inspect(context.Context, fabric.Segment) ([]string, error) { return nil, nil }

func (p *plane) Apply(_ context.Context, s fabric.Segment) (int, error) {
	p.mu.Lock()
	p.applied[s.Network.ID] = len(s.Local) + len(s.Remote)
	p.mu.Unlock()
	for _, peer := range s.Remote {
		p.arrivals.seen(p.host, peer.ID)
	}
	return 0, nil
}

func (p *plane) Update(_ context.Context, d fabric.Delta) error {
	for _, peer := range d.Put {
		p.arrivals.seen(p.host, peer.ID)
	}
	return nil
}

func (p *plane) Plug(_ context.Context, _ fabric.Segment, e fabric.Endpoint) (string, error) {
	return fabric.DeviceName("cwc", e.ID), nil
}

func (p *plane) Gateways(fabric.Segment) []netip.Addr { return nil }

func (p *plane) Alive(_ context.Context, s fabric.Segment) (map[string]bool, error) {
	alive := make(map[string]bool, len(s.Local))
	for _, e := range s.Local {
		alive[e.ID] = true
	}
	return alive, nil
}

func (p *plane) Prune(context.Context, []fabric.Segment) error { return nil }

func (p *plane) Invalidate() {}

func (p *plane) Watch(ctx context.Context, _ func(string)) error {
	<-ctx.Done()
	return ctx.Err()
}

// has says that the plane was given that many networks.
func (p *plane) has(networks int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.applied) >= networks
}

// endpoints is how many a network was applied with last, as a whole.
func (p *plane) endpoints(network string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied[network]
}

// arrivals are the endpoints on their way to the other agents.
type arrivals struct {
	mu    sync.Mutex
	sent  map[string]sending
	times []time.Duration
}

type sending struct {
	began   time.Time
	waiting map[string]bool // the agents that have it not yet
}

func newArrivals() *arrivals { return &arrivals{sent: map[string]sending{}} }

// expect notes that the agents will get an endpoint.
func (a *arrivals) expect(endpoint string, agents []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := make(map[string]bool, len(agents))
	for _, agent := range agents {
		waiting[agent] = true
	}
	a.sent[endpoint] = sending{time.Now(), waiting}
}

func (a *arrivals) seen(agent, endpoint string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.sent[endpoint]; s.waiting[agent] {
		delete(s.waiting, agent)
		a.times = append(a.times, time.Since(s.began))
	}
}

// waiting is how many have not arrived.
func (a *arrivals) waiting() (missing int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sent {
		missing += len(s.waiting)
	}
	return missing
}

// take gives the times and how often an endpoint has not arrived.
func (a *arrivals) take() (times []time.Duration, missing int) {
	missing = a.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	times, a.times, a.sent = a.times, nil, map[string]sending{}
	return times, missing
}
