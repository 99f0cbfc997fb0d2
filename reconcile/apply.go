package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
)

// work applies the dirty network that is next or, when none is due, has one plane
// prune. It returns how long there is nothing to do.
func (l *Loop) work(ctx context.Context) time.Duration {
	if !l.view.Synced() {
		return l.Timing.Resync
	}
	id, whole, wait := l.next(time.Now())
	if id != "" {
		l.reconcile(ctx, id, whole)
		return 0
	}
	if len(l.prunes) == 0 || !l.mayPrune() {
		return wait
	}
	mode, wait := l.prunes.next(time.Now(), wait)
	if mode != "" {
		l.prune(ctx, mode)
		return 0
	}
	return wait
}

// next gives the network that is due first, and whether to read it back as a whole.
// A Join never waits for networks that are read back.
func (l *Loop) next(now time.Time) (id string, whole bool, wait time.Duration) {
	changed, wait := l.schedule.next(now, l.Timing.Resync)
	aged, wait := l.readBacks.next(now, wait)
	if aged == "" || changed != "" && l.schedule.dirty[changed].before(l.readBacks.dirty[aged]) {
		return changed, false, wait
	}
	return aged, true, wait
}

// reconcile applies one network: what changed of it, or the whole. One whose endpoints,
// or blocks, were not read yet is dirty again when they are: it must not be taken for an empty one.
func (l *Loop) reconcile(ctx context.Context, id string, whole bool) {
	if following, ok := l.follows[id]; ok && !l.followBlocks(id, following) {
		l.schedule.skip(id)
		l.readBacks.skip(id)
		return
	}
	segment, wanted := l.view.Local(id)
	if !wanted {
		l.forget(id)
		return
	}
	l.setMode(id, segment.Network.Mode)
	err := l.apply(ctx, segment, whole)
	if err != nil {
		l.count(segment.Network.Mode, func(w *Work) { w.Failures++ })
	}
	l.report(segment.Network, err)
	l.schedule.take(time.Now(), id)
	l.answer(ctx, segment)
}

// apply gives the plane what changed, where that is known and will do.
func (l *Loop) apply(ctx context.Context, local fabric.Segment, whole bool) error {
	id := local.Network.ID
	plane, err := l.plane(local.Network.Mode)
	if err != nil {
		return err
	}
	if err := l.encrypt(ctx, local.Network); err != nil {
		return err
	}
	if delta, ok := l.view.Delta(id); ok && !whole && plane.Update(ctx, delta) == nil {
		l.view.Applied(id, true)
		l.count(local.Network.Mode, func(w *Work) { w.Changes++ })
		return nil
	}
	l.readBacks.take(time.Now(), id)
	segment, _ := l.view.Segment(id)
	repaired, err := plane.Apply(ctx, segment)
	l.view.Applied(id, err == nil)
	l.count(segment.Network.Mode, func(w *Work) { w.Wholes, w.Mended = w.Wholes+1, w.Mended+uint64(repaired) })
	if repaired > 0 {
		l.Log.WithFields(logrus.Fields{"network": segment.Network.Label(), "entries": repaired}).
			Warn("the kernel had lost entries of the network; they are restored")
	}
	return err
}

// encrypt has an encrypted network's devices be there before anything of it is.
func (l *Loop) encrypt(ctx context.Context, network fabric.Network) error {
	if !network.Encrypted {
		return nil
	}
	if l.Encryption == nil {
		return errors.New("this causeway has no encryption")
	}
	return l.Encryption.Ensure(ctx)
}

// report notes how the last Apply of a network ended.
func (l *Loop) report(network fabric.Network, err error) {
	scope := health.Scope{Part: health.Network, Object: network.ID}
	if err == nil {
		delete(l.faults, network.ID)
		l.Board.Report(scope, nil)
		return
	}
	if errors.Is(err, context.Canceled) {
		return // we are stopping
	}
	l.faults[network.ID] = err
	l.Board.Report(scope, fmt.Errorf("network %s cannot be applied, it is retried: %w", network.Label(), err))
}

// setMode notes by which mode's plane a network is applied, and has the plane of the
// mode before prune.
func (l *Loop) setMode(id string, mode fabric.Mode) {
	if before, ok := l.modes[id]; ok && before != mode {
		l.prunes.mark(time.Now(), before)
	}
	l.modes[id] = mode
}

// forget drops a network that this host does not need any more.
func (l *Loop) forget(id string) {
	l.schedule.forget(id)
	l.readBacks.forget(id)
	l.view.Applied(id, false)
	l.setMode(id, "")
	delete(l.modes, id)
	if _, faulty := l.faults[id]; faulty {
		delete(l.faults, id)
		l.Board.Retain(health.Network, func(object string) bool { return object != id })
	}
}

// resync has every segment read back from the kernel, spread over the period, so that
// no Join waits for all of them.
func (l *Loop) resync() {
	l.invalidate()
	ids := l.view.Needed()
	for i, id := range ids {
		l.readBacks.markAt(time.Now().Add(l.Timing.Resync*time.Duration(i)/time.Duration(len(ids))), id)
	}
	l.view.Report(true)
}

func (l *Loop) invalidate() {
	for _, plane := range l.Planes {
		plane.Invalidate()
	}
	l.pruneAll()
}

// Kick reads the whole kernel back now.
func (l *Loop) Kick() {
	_ = l.post(context.Background(), func(context.Context) { l.readAll() })
}

func (l *Loop) readAll() {
	l.invalidate()
	for _, id := range l.view.Needed() {
		l.readBacks.mark(time.Now(), id)
	}
}

func (l *Loop) mark(ids ...string) {
	for _, id := range ids {
		l.schedule.mark(time.Now(), id)
		if len(l.joins[id]) > 0 {
			l.schedule.hurry(time.Now(), id)
		}
	}
}

// retry applies again what failed.
func (l *Loop) retry() {
	for id := range l.faults {
		l.mark(id)
	}
	l.view.Report(false)
}
