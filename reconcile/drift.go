package reconcile

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
)

// driftPause lies between two Applies of a network that are due to what others
// do to the kernel: they may do it without an end.
const driftPause = 250 * time.Millisecond

// drifts are the networks that others changed in the kernel, "" for all of a mode.
// A plane that tells of one never waits for the loop, which may wait for the plane.
type drifts struct {
	mu     sync.Mutex // guards marked
	marked map[fabric.Mode]map[string]bool
	wake   chan struct{}
}

func newDrifts() *drifts {
	return &drifts{marked: map[fabric.Mode]map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (d *drifts) add(mode fabric.Mode, network string) {
	d.mu.Lock()
	if d.marked[mode] == nil {
		d.marked[mode] = map[string]bool{}
	}
	d.marked[mode][network] = true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *drifts) take() map[fabric.Mode]map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	marked := d.marked
	d.marked = map[fabric.Mode]map[string]bool{}
	return marked
}

// takeDrifts has what others changed applied again.
func (l *Loop) takeDrifts() {
	for mode, networks := range l.drifts.take() {
		for _, id := range l.view.NeededBy(mode) {
			if networks[id] || networks[""] {
				l.readBacks.markAfter(time.Now(), id, driftPause)
			}
		}
	}
}

// watchPlane has what others change repaired, until ctx ends.
func (l *Loop) watchPlane(ctx context.Context, mode fabric.Mode, plane fabric.Dataplane) error {
	scope := health.Scope{Part: health.Network, Object: "changes of mode=" + string(mode)}
	pause := l.Timing.Retry
	for {
		begun := time.Now()
		err := plane.Watch(ctx, func(network string) { l.drifts.add(mode, network) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.Board.Report(scope, fmt.Errorf("%s: changes of the kernel are noticed late, it is retried: %w", mode, err))
		if pause = min(2*pause, l.Timing.Resync/2); time.Since(begun) > l.Timing.Resync {
			pause = l.Timing.Retry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		l.Board.Report(scope, nil)
		// What happened meanwhile went unnoticed.
		if err := l.post(ctx, func(context.Context) { plane.Invalidate() }); err != nil {
			return err
		}
		l.drifts.add(mode, "")
	}
}
