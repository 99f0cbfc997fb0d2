package driver

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// reap finds what Docker will not delete: it was killed, or it forgot. An
// endpoint is alive if and only if its link is; one that is seen dead twice,
// with the grace time between, is erased. Addresses follow their endpoint.
func (l *loop) reap(ctx context.Context) {
	now := time.Now()
	seen := make(map[string]bool)
	for _, segment := range fabric.Plan(l.state, l.Host.Name) {
		plane, ok := l.Planes[segment.Network.Mode]
		if !ok || len(segment.Local) == 0 {
			continue
		}
		alive, err := plane.Alive(ctx, segment)
		if err != nil {
			l.Log.WithError(err).WithField("network", orID(segment.Network)).Warn("cannot tell which endpoints live; none is judged")
			for _, endpoint := range segment.Local {
				seen[endpoint.ID] = true
			}
			continue
		}
		for _, endpoint := range segment.Local {
			if alive[endpoint.ID] {
				continue
			}
			seen[endpoint.ID] = true
			l.judge(ctx, endpoint, now)
		}
	}
	for id := range l.dead {
		if !seen[id] {
			delete(l.dead, id)
		}
	}
	l.sweep(ctx, now)
}

// lives says whether one of this host's endpoints has its link. One that is not
// in view yet is as good as alive.
func (l *loop) lives(ctx context.Context, network, endpoint string) (bool, error) {
	lives := make(chan bool, 1) // the loop may come to it after we are gone
	err := l.do(ctx, func(ctx context.Context) error {
		segment, _ := l.segment(network)
		plane, ok := l.Planes[segment.Network.Mode]
		if !ok || !slices.ContainsFunc(segment.Local, func(e fabric.Endpoint) bool { return e.ID == endpoint }) {
			lives <- true
			return nil
		}
		alive, err := plane.Alive(ctx, segment)
		lives <- alive[endpoint]
		return err
	})
	if err != nil {
		return false, err
	}
	return <-lives, nil
}

func (l *loop) judge(ctx context.Context, endpoint fabric.Endpoint, now time.Time) {
	first, known := l.dead[endpoint.ID]
	if !known {
		l.dead[endpoint.ID] = now
		return
	}
	if now.Sub(first) < l.Timing.Grace {
		return
	}
	l.Log.WithField("endpoint", endpoint.ID[:min(12, len(endpoint.ID))]).
		WithField("addresses", endpoint.Addrs).Info("endpoint has no container any more; it is erased")
	l.group.Go(func() error {
		if err := l.records.DeleteEndpoint(ctx, endpoint.Network, endpoint.ID, true); err != nil && ctx.Err() == nil {
			l.Log.WithError(err).Warn("a dead endpoint could not be erased; trying again")
		}
		return nil
	})
}

// sweep frees the addresses that this host claimed and that no endpoint has:
// Docker died between RequestAddress and CreateEndpoint, or before ReleaseAddress.
// Pools without a network belong to other drivers and are theirs to judge. One
// sweep runs at a time, however slow the store is.
func (l *loop) sweep(ctx context.Context, now time.Time) {
	if l.sweeps.running {
		return
	}
	l.sweeps.running = true
	networks := l.toSweep()
	l.group.Go(func() error {
		defer func() { _ = l.post(ctx, func(context.Context) { l.sweeps.running = false }) }()
		for _, network := range networks {
			orphans, err := l.records.Orphans(ctx, network)
			if err != nil {
				return nil // the store is away: nothing is judged
			}
			if err := l.post(ctx, func(ctx context.Context) { l.judgeOrphans(ctx, network.ID, orphans, now) }); err != nil {
				return nil
			}
		}
		return nil
	})
}

// sweeps says where the sweep is.
type sweeps struct {
	running bool
	last    string // the ID of the idle network that was swept last
}

// idleSweeps is how many networks without a container of this host one sweep
// takes in: a mirror has every network of the cluster.
const idleSweeps = 4

// toSweep gives the networks that have containers here, and the next few of the
// others.
func (l *loop) toSweep() []fabric.Network {
	var busy, idle []fabric.Network
	for _, id := range slices.Sorted(maps.Keys(l.state.Attached)) {
		network, known := l.state.Networks[id]
		_, followed := l.follows[id]
		switch {
		case !known:
		case followed:
			busy = append(busy, network)
		default:
			idle = append(idle, network)
		}
	}
	next := slices.IndexFunc(idle, func(n fabric.Network) bool { return n.ID > l.sweeps.last })
	for i := range min(idleSweeps, len(idle)) {
		network := idle[(max(next, 0)+i)%len(idle)]
		busy, l.sweeps.last = append(busy, network), network.ID
	}
	return busy
}

func (l *loop) judgeOrphans(ctx context.Context, network string, orphans []kvstore.Item, now time.Time) {
	seen := l.orphans[network]
	next := make(map[orphan]time.Time, len(orphans))
	var free []kvstore.Item
	for _, item := range orphans {
		id := orphan{item.Key, item.Revision}
		first, known := seen[id]
		if !known {
			first = now
		}
		next[id] = first
		if now.Sub(first) >= l.Timing.Grace {
			free = append(free, item)
		}
	}
	l.orphans[network] = next
	if len(free) == 0 {
		return
	}
	l.group.Go(func() error {
		for _, item := range free {
			if l.records.ReleaseClaim(ctx, item) == nil {
				l.Log.WithField("address", item.Key).Info("address is claimed for no endpoint; it is freed")
			}
		}
		return nil
	})
}

// orphan is one claim of an address; a claim made anew is another.
type orphan struct {
	key      string
	revision int64
}
