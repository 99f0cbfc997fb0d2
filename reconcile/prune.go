package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
)

// prunes are the modes whose plane has to prune, and when.
type prunes map[fabric.Mode]time.Time

func (p prunes) mark(due time.Time, modes ...fabric.Mode) {
	for _, mode := range modes {
		if at, marked := p[mode]; !marked || due.Before(at) {
			p[mode] = due
		}
	}
}

// next gives a mode to prune now, or else how long none is due.
func (p prunes) next(now time.Time, idle time.Duration) (fabric.Mode, time.Duration) {
	for _, mode := range slices.Sorted(maps.Keys(p)) {
		wait := p[mode].Sub(now)
		if wait <= 0 {
			return mode, 0
		}
		idle = min(idle, wait)
	}
	return "", idle
}

// pruneAll has every plane prune soon: it is not known which has something to delete.
func (l *Loop) pruneAll() {
	for mode := range l.Planes {
		l.prunes.mark(time.Now(), mode)
	}
}

// prune has the plane of a mode delete what is no longer wanted. A failure is
// retried after a while: each try lists all objects of the plane.
func (l *Loop) prune(ctx context.Context, mode fabric.Mode) {
	delete(l.prunes, mode)
	plane, ok := l.Planes[mode]
	if !ok {
		return
	}
	err := plane.Prune(ctx, l.view.Wanted(mode))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		err = fmt.Errorf("what no network needs any more could not all be deleted, it is retried: %w", err)
		l.prunes.mark(time.Now().Add(10*l.Timing.Retry), mode)
	}
	l.Board.Report(health.Scope{Part: health.Prune, Object: string(mode)}, err)
}
