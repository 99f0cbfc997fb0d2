package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/internal/health"
)

// collector finds what Docker will not delete, because it was killed or forgot,
// and deletes it: endpoints without a container, and this host's claims of
// addresses that no endpoint has (claims.go). Nothing is judged by one look. It
// has its own goroutine and asks the loop for what it needs.
type collector struct {
	*Loop
	dead   map[string]*grace.Tracker[string] // endpoints without a container, by network
	claims *claims
}

func newCollector(l *Loop) *collector {
	return &collector{Loop: l, dead: map[string]*grace.Tracker[string]{}, claims: newClaims()}
}

func (c *collector) run(ctx context.Context) error {
	tick := time.NewTicker(c.Timing.Collect)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if c.Membership.Refusal() != nil {
			continue // another's endpoints may be under this host's name
		}
		c.collectEndpoints(ctx)
		c.collectClaims(ctx)
	}
}

// endpointsOf begins the Board's objects of dead endpoints; a network's ID follows.
const endpointsOf = "endpoints of "

// collectEndpoints deletes the endpoints that have had no container for the grace
// time, network by network: a Join may come in between.
func (c *collector) collectEndpoints(ctx context.Context) {
	var ids []string
	if c.do(ctx, func(context.Context) error { ids = c.view.needed(); return nil }) != nil {
		return
	}
	for id := range c.dead {
		if !slices.Contains(ids, id) {
			delete(c.dead, id)
		}
	}
	for _, id := range ids {
		err := c.collectOn(ctx, id)
		if ctx.Err() != nil {
			return
		}
		c.Board.Report(health.Scope{Part: health.Collect, Object: endpointsOf + id}, err)
	}
	c.Board.Retain(health.Collect, func(object string) bool {
		id, ofNetwork := strings.CutPrefix(object, endpointsOf)
		return !ofNetwork || slices.Contains(ids, id)
	})
}

func (c *collector) collectOn(ctx context.Context, id string) error {
	var network fabric.Network
	addresses := make(map[string]any)
	var dead []string
	err := c.do(ctx, func(ctx context.Context) error {
		segment, ok := c.view.local(id)
		plane, planned := c.Planes[segment.Network.Mode]
		if network = segment.Network; !ok || !planned || len(segment.Local) == 0 {
			return nil
		}
		alive, err := plane.Alive(ctx, segment)
		if err != nil {
			return err
		}
		for _, endpoint := range segment.Local {
			if !alive[endpoint.ID] {
				dead = append(dead, endpoint.ID)
				addresses[endpoint.ID] = endpoint.Addrs
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("network %s: cannot tell which endpoints have a container, none is judged: %w", network.Label(), err)
	}
	tracker := c.dead[id]
	if tracker == nil {
		tracker = &grace.Tracker[string]{}
		c.dead[id] = tracker
	}
	for _, endpoint := range tracker.Observe(time.Now(), dead, c.Timing.Grace) {
		if err := c.records.DeleteEndpoint(ctx, id, endpoint, true); err != nil {
			return fmt.Errorf("network %s: endpoint %.12s has no container and could not be deleted, it is retried: %w", network.Label(), endpoint, err)
		}
		c.Log.WithField("endpoint", fmt.Sprintf("%.12s", endpoint)).WithField("addresses", addresses[endpoint]).
			Info("endpoint has no container any more; it is deleted")
	}
	return nil
}
