// Package reconcile keeps this host's kernel as the cluster's records say.
//
// A record is written by a handler of driver or by another host. The watch on its
// prefix (follow.go) hands it to the loop (loop.go), the one goroutine that owns
// the data planes and the view of the records (package view). The networks
// that the change concerns become dirty (schedule.go). Of each, what changed is planned
// by [fabric.PlanDelta], or the whole by [fabric.Plan], and given to its plane
// (apply.go); then the endpoints that Docker has asked for are plugged (plug.go). What
// is no longer wanted is pruned (prune.go). A start is the same: everything is dirty.
//
// What Docker does not tell of is found and deleted by package collect, which asks
// the loop (ask.go).
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/reconcile/view"
)

// Membership is this host's standing in the cluster.
type Membership interface {
	// Ready waits until this host may act under its name.
	Ready(ctx context.Context) error
	// Refusal says why this host may not act now; nil while it may.
	Refusal() error
	// HostsChanged is told each change of the hosts' records, in order.
	HostsChanged(ctx context.Context, change kvstore.Change[fabric.Host])
}

// Encryption is this host's ends of encrypted networks.
type Encryption interface {
	// Ensure has them be there, or says what is missing. It costs nothing while they are.
	Ensure(ctx context.Context) error
}

// Config is what a Loop works with; Names and Timing may be left out.
type Config struct {
	Host       fabric.Host
	Store      kvstore.Store
	Planes     map[fabric.Mode]fabric.Dataplane
	Membership Membership
	// Names answers by name; nil: nobody does.
	Names Names
	// Encryption has what encrypted networks need on this host.
	Encryption Encryption
	// Hosts is told the hosts in view after each change, in order; nil: nobody is.
	Hosts  func(map[string]fabric.Host)
	Board  *health.Board
	Log    *logrus.Entry
	Timing Timing
}

// Timing are the loop's periods; a zero field takes the default.
type Timing struct {
	Resync   time.Duration // each segment is read back from the kernel once in (1 min)
	Retry    time.Duration // after a failed Apply (2 s)
	Coalesce time.Duration // between two Applies of a network, unless a Join waits (20 ms)
}

// Loop is the reconciler of one host.
type Loop struct {
	Config
	tasks chan func(context.Context)
	done  chan struct{}
	group *errgroup.Group

	// The loop's goroutine alone uses what follows.
	view     *view.View
	follows  map[string]*following // by network
	schedule *schedule             // what changed
	// readBacks are the networks to apply as a whole, because the kernel may differ.
	readBacks *schedule
	joins     joins
	faults    map[string]error       // by network: why the last Apply failed
	modes     map[string]fabric.Mode // by network: whose plane it was applied by
	prunes    prunes
	counts    map[fabric.Mode]Work
	missing   grace.Tracker[string] // networks without a record that this host has endpoints on

	drifts *drifts
}

// New makes a Loop; nothing happens before Run.
func New(config Config) *Loop {
	t := &config.Timing
	t.Resync = cmp.Or(t.Resync, time.Minute)
	t.Retry = cmp.Or(t.Retry, 2*time.Second)
	t.Coalesce = cmp.Or(t.Coalesce, 20*time.Millisecond)
	return &Loop{
		Config:    config,
		tasks:     make(chan func(context.Context), 256),
		done:      make(chan struct{}),
		view:      view.New(config.Host, config.Board),
		follows:   map[string]*following{},
		schedule:  newSchedule(t.Coalesce),
		readBacks: newSchedule(t.Coalesce),
		joins:     joins{},
		faults:    map[string]error{},
		modes:     map[string]fabric.Mode{},
		prunes:    prunes{},
		counts:    map[fabric.Mode]Work{},
		drifts:    newDrifts(),
	}
}

// Run reconciles until ctx ends. It then leaves the kernel as it is: containers keep
// their traffic.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.done)
	group, ctx := errgroup.WithContext(ctx)
	l.group = group
	group.Go(func() error { return l.loop(ctx) })
	group.Go(func() error {
		// Until this host has its name, the records under that name may be another's.
		if err := l.Membership.Ready(ctx); err != nil {
			return err
		}
		l.followTables(ctx)
		return nil
	})
	for mode, plane := range l.Planes {
		group.Go(func() error { return l.watchPlane(ctx, mode, plane) })
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// loop runs all tasks that wait, and then does one piece of work (see work): so a
// burst of changes costs a network one Apply, and a Join that comes meanwhile is next.
func (l *Loop) loop(ctx context.Context) error {
	resync := time.NewTicker(l.Timing.Resync)
	defer resync.Stop()
	retry := time.NewTicker(l.Timing.Retry)
	defer retry.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case task := <-l.tasks:
			task(ctx)
		case <-resync.C:
			l.resync()
		case <-retry.C:
			l.retry()
		case <-l.drifts.wake:
			l.takeDrifts()
		case <-due.C:
		}
		l.drain(ctx)
		due.Reset(l.work(ctx))
	}
}

func (l *Loop) drain(ctx context.Context) {
	for range 1000 {
		select {
		case task := <-l.tasks:
			task(ctx)
		default:
			return
		}
	}
}

// post hands task to the loop and does not wait for it to run.
func (l *Loop) post(ctx context.Context, task func(context.Context)) error {
	select {
	case l.tasks <- task:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return errStopping
	}
}

var errStopping = errors.New("causeway is stopping")

func (l *Loop) plane(mode fabric.Mode) (fabric.Dataplane, error) {
	plane, ok := l.Planes[mode]
	if !ok {
		return nil, fmt.Errorf("this causeway has no data plane for mode=%s", mode)
	}
	return plane, nil
}
