package ovs

import (
	"context"
	"sync"

	"github.com/causeway-net/causeway/internal/openflow"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// activity is what Watch shares with the goroutine that calls the plane. While
// busy, the plane's state is that goroutine's; else who has mu may read it.
type activity struct {
	mu   sync.Mutex
	busy bool
	// operations counts the plane's operations.
	operations int
	// written counts the plane's own changes of flows and groups that Watch has not
	// seen yet.
	written map[openflow.Change]int
	// stale are the networks that others changed since the last operation; static
	// is the flows that serve all.
	stale map[string]bool
	ended chan struct{} // closed when the running operation ends
}

func newActivity() *activity {
	return &activity{written: map[openflow.Change]int{}, stale: map[string]bool{}}
}

// begin starts an operation of the plane and returns the stale networks.
func (a *activity) begin() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy, a.ended = true, make(chan struct{})
	a.operations++
	stale := a.stale
	a.stale = map[string]bool{}
	return stale
}

func (a *activity) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy = false
	close(a.ended)
}

// wrote notes what a bundle did to the flows of a cookie, and to groups.
func (a *activity) wrote(cookie uint64, c vswitch.Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	note := func(change openflow.Change, count int) {
		if count > 0 {
			a.written[change] += count
		}
	}
	note(openflow.Change{Kind: openflow.FlowAdded, Cookie: cookie}, len(c.Add))
	note(openflow.Change{Kind: openflow.FlowRemoved, Cookie: cookie}, len(c.Remove))
	for _, g := range c.SetGroups {
		note(openflow.Change{Kind: openflow.GroupChanged, Group: g.ID}, 1)
	}
	for _, id := range c.RemoveGroups {
		note(openflow.Change{Kind: openflow.GroupChanged, Group: id}, 1)
	}
}

// settle calls judge with mu held, between two operations of the plane, after sync
// has received all events of the operations before.
func (a *activity) settle(ctx context.Context, sync func() error, judge func()) error {
	for {
		before, err := a.idle(ctx)
		if err != nil {
			return err
		}
		if err := sync(); err != nil {
			return err
		}
		if a.judged(before, judge) {
			return nil
		}
	}
}

func (a *activity) judged(operations int, judge func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy || a.operations != operations {
		return false
	}
	judge()
	return true
}

// idle waits for the running operation and returns how many there were.
func (a *activity) idle(ctx context.Context) (int, error) {
	for {
		a.mu.Lock()
		busy, ended, operations := a.busy, a.ended, a.operations
		a.mu.Unlock()
		if !busy {
			return operations, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
