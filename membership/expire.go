package membership

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// peers are the other hosts as far as expiry needs them.
type peers struct {
	mu     sync.Mutex
	hosts  map[string]bool
	alive  map[string]bool
	seen   map[string]int64 // at which revision a host came to life last
	synced bool             // alive was read once
}

func newPeers() *peers {
	return &peers{hosts: map[string]bool{}, alive: map[string]bool{}, seen: map[string]int64{}}
}

func (p *peers) hostsChanged(c kvstore.Change[fabric.Host]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range c.Put {
		p.hosts[name] = true
	}
	for _, name := range c.Gone {
		delete(p.hosts, name)
		delete(p.seen, name)
	}
}

func (p *peers) aliveChanged(c kvstore.Change[records.Alive]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = true
	for name := range c.Put {
		p.alive[name], p.seen[name] = true, c.Revision
	}
	for name := range c.Bad {
		p.alive[name] = true
	}
	for _, name := range c.Gone {
		delete(p.alive, name)
	}
}

// absence is one host that does not live; one that lived in between is another.
type absence struct {
	host     string
	revision int64
}

// absent lists the hosts that are gone.
func (p *peers) absent() []absence {
	p.mu.Lock()
	defer p.mu.Unlock()
	var gone []absence
	for name := range p.hosts {
		if p.synced && !p.alive[name] {
			gone = append(gone, absence{name, p.seen[name]})
		}
	}
	return gone
}

// expire releases the hosts that this one has seen gone for all of Expiry, by its
// own clock. While the store is away nothing is seen, and the time starts again.
func (m *Member) expire(ctx context.Context) error {
	if m.Expiry <= 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return kvstore.Watch(ctx, m.Store, records.AlivePrefix, m.peers.aliveChanged) })
	group.Go(func() error {
		tick := time.NewTicker(max(time.Millisecond, min(time.Minute, m.Expiry/10)))
		defer tick.Stop()
		var gone grace.Tracker[absence]
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			if m.Refusal() != nil || m.Store.Health(ctx) != nil {
				gone = grace.Tracker[absence]{}
				continue
			}
			for _, due := range gone.Observe(time.Now(), m.peers.absent(), m.Expiry) {
				m.release(ctx, due.host)
			}
		}
	})
	return group.Wait()
}

func (m *Member) release(ctx context.Context, name string) {
	if name == m.Host.Name {
		return // its own lease is being made again
	}
	scope := health.Scope{Part: health.Collect, Object: "host " + name}
	endpoints, err := records.ReleaseHost(ctx, m.Store, name)
	switch {
	case err == nil:
		m.Log.WithField("host", name).Infof("host was gone for %v (--host-expiry): it is released, with %d endpoints", m.Expiry, endpoints)
		m.Board.Report(scope, nil)
	case errors.Is(err, kvstore.ErrNotFound), errors.Is(err, kvstore.ErrConflict), ctx.Err() != nil:
		m.Log.WithField("host", name).WithError(err).Debug("another host releases it, or it came back")
		m.Board.Report(scope, nil)
	default:
		m.Board.Report(scope, fmt.Errorf("host %s is gone for %v (--host-expiry) and could not be released, it is retried: %w", name, m.Expiry, err))
	}
}
