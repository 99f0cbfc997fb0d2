// Package membership is this host's place in the cluster.
//
// A host joins by writing its record, unless another host has its name or its
// VTEP (announce.go); until then it may do nothing under its name (standing.go).
// From then on it holds alive/<host> on a lease, and writes its record again when
// that was deleted or overwritten. What a host that is gone had is released when a
// user asks for it (release.go), or after a time (expire.go).
package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Config is what a Member works with. Expiry and Timing may be left out.
type Config struct {
	Host  fabric.Host
	Store kvstore.Store
	// Expiry is how long another host may be gone until it is released; 0: for ever.
	Expiry time.Duration
	Board  *health.Board
	Log    *logrus.Entry
	Timing Timing
}

// Timing are a Member's periods; a zero field takes the default.
type Timing struct {
	Retry time.Duration // after the record could not be written (2 s)
	Lease time.Duration // of the record alive/<host> (15 s)
}

// Member is this host in the cluster.
type Member struct {
	Config
	standing *standing
	peers    *peers
	// writing is held while this host's record is written, ends guarded by it.
	writing sync.Mutex
	ends    fabric.Ends
	// again asks for this host's record to be written again.
	again chan struct{}
}

// New makes a Member; nothing happens before Run.
func New(config Config) *Member {
	config.Timing.Retry = cmp.Or(config.Timing.Retry, 2*time.Second)
	config.Timing.Lease = cmp.Or(config.Timing.Lease, 15*time.Second)
	return &Member{
		Config: config, standing: newStanding(), peers: newPeers(),
		again: make(chan struct{}, 1), ends: config.Host.Ends,
	}
}

// Run joins the cluster, and keeps this host in it until ctx ends. The lease is
// held only once the record is written: until then the name may be another's.
func (m *Member) Run(ctx context.Context) error {
	if err := m.announce(ctx); err != nil {
		return ended(err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		since := time.Now().UTC().Truncate(time.Second)
		return m.Store.Hold(ctx, records.AliveKey(m.Host.Name), records.Alive{Since: since}, m.Timing.Lease)
	})
	group.Go(func() error { return m.syncMembers(ctx) })
	group.Go(func() error { return m.expire(ctx) })
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-m.again:
			}
			if err := m.announce(ctx); err != nil {
				return err
			}
		}
	})
	return ended(group.Wait())
}

// syncMembers brings the networks' members in line with this host's attachments.
func (m *Member) syncMembers(ctx context.Context) error {
	scope := health.Scope{Part: health.Membership, Object: "members"}
	for {
		err := records.Records{Store: m.Store, Host: m.Host.Name}.SyncMembers(ctx, m.Host.Mirror)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			m.Board.Report(scope, nil)
			return nil
		}
		if !errors.Is(err, kvstore.ErrUnavailable) {
			m.Board.Report(scope, fmt.Errorf("the members of this host's networks cannot be written, it is retried: %w", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * m.Timing.Retry):
		}
	}
}

// ended turns the end of a context, which was asked for, into a success.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Ready waits until this host may act under its name.
func (m *Member) Ready(ctx context.Context) error {
	select {
	case <-m.standing.wait():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refusal says why this host may not act under its name now; nil when it may, or
// when that is not known yet.
func (m *Member) Refusal() error { return m.standing.refusal() }
