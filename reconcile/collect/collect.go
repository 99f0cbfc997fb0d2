// Package collect finds what Docker will not delete, because it was killed or
// forgot, and deletes it.
//
// An endpoint is alive if and only if its container's link is (collect.go). This
// host's claims of addresses that no endpoint has are released (claims.go). Nothing is
// deleted after one observation: it has to be dead in every one for the grace time.
package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/reconcile/view"
	"github.com/causeway-net/causeway/records"
)

// Loop has the records in view and owns the data planes.
type Loop interface {
	// Networks are the IDs of the networks that this host needs.
	Networks(ctx context.Context) ([]string, error)
	// Dead gives a network's endpoints of this host that have no container's link.
	Dead(ctx context.Context, network string) (fabric.Network, []fabric.Endpoint, error)
	// Holdings are what this host has in the cluster; an error before all was read.
	Holdings(ctx context.Context) (view.Holdings, error)
}

// Config is what a Collector works with; Every and Grace may be left out.
type Config struct {
	Records records.Records
	Loop    Loop
	// Refusal says why this host may not act now; nil while it may.
	Refusal func() error
	Board   *health.Board
	Log     *logrus.Entry
	Every   time.Duration // between two observations (15 s)
	Grace   time.Duration // between the first observation and the last (30 s)
}

// Collector finds and deletes what is dead.
type Collector struct {
	Config
	dead   map[string]*grace.Tracker[string] // endpoints without a container, by network
	claims claims
}

// New makes a Collector; nothing happens before Run.
func New(config Config) *Collector {
	config.Every = cmp.Or(config.Every, 15*time.Second)
	config.Grace = cmp.Or(config.Grace, 30*time.Second)
	return &Collector{
		Config: config, dead: map[string]*grace.Tracker[string]{},
		claims: claims{told: map[string]bool{}, suspects: map[string]bool{}, read: map[string]bool{}},
	}
}

// Run collects every Every until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if c.Refusal() == nil { // else another's endpoints may be under this host's name
			c.endpoints(ctx)
			c.addresses(ctx)
		}
	}
}

// endpointsOf begins the Board's objects of dead endpoints; a network's ID follows.
const endpointsOf = "endpoints of "

// endpoints deletes those that have had no container for the grace time, network by
// network: a Join may come in between.
func (c *Collector) endpoints(ctx context.Context) {
	ids, err := c.Loop.Networks(ctx)
	if err != nil {
		return
	}
	for id := range c.dead {
		if !slices.Contains(ids, id) {
			delete(c.dead, id)
		}
	}
	for _, id := range ids {
		err := c.endpointsOn(ctx, id)
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

func (c *Collector) endpointsOn(ctx context.Context, id string) error {
	network, dead, err := c.Loop.Dead(ctx, id)
	if err != nil {
		return fmt.Errorf("network %s: cannot tell which endpoints have a container, none is judged: %w", network.Label(), err)
	}
	found := make([]string, 0, len(dead))
	for _, endpoint := range dead {
		found = append(found, endpoint.ID)
	}
	tracker := c.dead[id]
	if tracker == nil {
		tracker = &grace.Tracker[string]{}
		c.dead[id] = tracker
	}
	for _, due := range tracker.Observe(time.Now(), found, c.Grace) {
		if _, err := c.Records.DeleteEndpoint(ctx, network, due, true); err != nil {
			return fmt.Errorf("network %s: endpoint %.12s has no container and could not be deleted, it is retried: %w", network.Label(), due, err)
		}
		c.Log.WithField("endpoint", fmt.Sprintf("%.12s", due)).WithField("addresses", dead[slices.Index(found, due)].Addrs).
			Info("endpoint has no container any more; it is deleted")
	}
	return nil
}
