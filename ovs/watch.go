package ovs

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/internal/openflow"
)

const (
	// redial lies between two attempts to watch a switch that is not there.
	redial = 100 * time.Millisecond
	// idleRedial is for a host without networks of this mode.
	idleRedial = time.Second
	// neighbourCheck is how often the tunnels' next hops are compared: the switch
	// has no events for them.
	neighbourCheck = 500 * time.Millisecond
)

// Watch calls drifted with each network whose flows, groups or ports others
// changed, or with "" for all, until ctx ends. The plane's own writes are no drift.
// The next Apply of such a network reads the switch back.
//
// Watch starts no processes: it is connected to the database's socket and the
// bridge's. A switch that hangs blocks Watch alone.
func (p *Plane) Watch(ctx context.Context, drifted func(network string)) error {
	w := watcher{p, drifted}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.repeat(ctx, w.flows) })
	group.Go(func() error { return w.repeat(ctx, w.database) })
	group.Go(func() error { return w.repeat(ctx, w.ends) })
	group.Go(func() error { return w.repeat(ctx, w.hostFilter) })
	group.Go(func() error { return w.neighbours(ctx) })
	group.Go(func() error { return w.gateways.Watch(ctx, w.resync) })
	group.Go(func() error { return w.devices.Watch(ctx, w.resync) })
	return group.Wait()
}

type watcher struct {
	*Plane
	drifted func(network string)
}

// repeat connects again and again: the switch, its bridge and its database come and go.
func (w watcher) repeat(ctx context.Context, watch func(context.Context) error) error {
	for {
		if !w.vswitch.Unresponsive() {
			_ = watch(ctx) // Apply reports a switch that is not there
		}
		pause := idleRedial
		w.activity.mu.Lock()
		if !w.activity.busy && len(w.known) > 0 {
			pause = redial
		}
		w.activity.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// flows watches the bridge's flows and groups.
func (w watcher) flows(ctx context.Context) error {
	conn, err := openflow.Dial(ctx, w.vswitch.Management())
	if err != nil {
		return err
	}
	defer conn.Close()
	seen := make(map[openflow.Change]int)
	conn.Changed = func(c openflow.Change) { seen[c]++ }
	fresh := true // what happened before was not told
	for {
		var stale []string
		err := w.activity.settle(ctx, func() error { return conn.Sync(0) }, func() {
			if stale = w.changed(seen); fresh {
				stale = slices.Collect(maps.Keys(w.known))
			}
			clear(seen)
			clear(w.activity.written)
			w.mark(stale)
		})
		if err != nil {
			return err
		}
		fresh = false
		w.tell(stale)
		if err := conn.Wait(); err != nil {
			return err
		}
	}
}

// changed returns the networks that others changed.
func (w watcher) changed(seen map[openflow.Change]int) []string {
	written := w.activity.written
	vnis, all := make(map[uint32]bool), false
	compare := func(c openflow.Change) {
		if seen[c] == written[c] {
			return
		}
		switch {
		case c.Kind == openflow.GroupChanged && c.Group != openflow.AllGroups:
			vnis[c.Group&vniMask] = true
		case c.Cookie&cookieMask == cookieOurs:
			vnis[uint32(c.Cookie)] = true
		case c.Kind == openflow.FlowAdded:
			// On our own bridge another's flow may have replaced ours.
			all = all || w.have != nil && w.have.made
		case c.Kind != openflow.FlowRemoved && c.Kind != openflow.FlowModified:
			all = true
		}
	}
	for c := range seen {
		compare(c)
	}
	for c := range written {
		compare(c)
	}
	var stale []string
	for id, programme := range w.known {
		if all || vnis[programme.segment.Network.VNI] {
			stale = append(stale, id)
		}
	}
	return stale
}

// resync reports a network of which a gateway or device drifted, and has it read back.
func (w watcher) resync(network string) {
	w.activity.mu.Lock()
	w.mark([]string{network})
	w.activity.mu.Unlock()
	w.drifted(network)
}

// mark has the plane read back at its next operation.
func (w watcher) mark(networks []string) {
	for _, id := range networks {
		w.activity.stale[id] = true
	}
}

// tell reports networks as drifted. The flows that serve all networks are written
// with any of them.
func (w watcher) tell(networks []string) {
	slices.Sort(networks)
	networks = slices.Compact(networks)
	if slices.Contains(networks, static) {
		networks = []string{static} // which is "" and stands for all
	}
	for _, id := range networks {
		w.drifted(id)
	}
}

// neighbours sets the tunnels' next hops that the switch lost.
func (w watcher) neighbours(ctx context.Context) error {
	tick := time.NewTicker(neighbourCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if repaired, _ := w.Plane.neighbours.ensure(ctx, 0); repaired > 0 { // Apply reports a switch that is not there
			w.Log.WithField("entries", repaired).Warn("the switch had lost next hops of its tunnels; they are back")
		}
	}
}
