package driver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// absence is one host that does not live; one that starts anew is another.
type absence struct {
	host     string
	revision int64
}

// expire releases the hosts that this one has seen gone for all of HostExpiry, by
// its own clock. While the store is away nothing is seen, and it counts anew.
func (l *loop) expire(ctx context.Context) error {
	if l.HostExpiry <= 0 {
		return nil
	}
	tick := time.NewTicker(max(time.Millisecond, min(time.Minute, l.HostExpiry/10)))
	defer tick.Stop()
	var gone map[absence]time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if l.standing.refusal() != nil {
			gone = nil
			continue
		}
		gone = l.lookForGone(ctx, gone)
	}
}

// lookForGone gives the hosts that are gone, since when as far as is known from
// the look before, and releases those whose time is up.
func (l *loop) lookForGone(ctx context.Context, before map[absence]time.Time) map[absence]time.Time {
	alive, err := l.Store.List(ctx, records.AlivePrefix)
	if err != nil {
		return nil
	}
	hosts, err := l.Store.List(ctx, records.HostsPrefix)
	if err != nil {
		return nil
	}
	now := time.Now()
	gone := make(map[absence]time.Time)
	for key, item := range hosts.Items {
		name := strings.TrimPrefix(key, records.HostsPrefix)
		if _, lives := alive.Items[records.AliveKey(name)]; lives || name == l.Host.Name {
			continue
		}
		this := absence{name, item.Revision}
		since, known := before[this]
		if !known {
			since = now
		}
		gone[this] = since
		if now.Sub(since) >= l.HostExpiry {
			l.releaseGone(ctx, name)
		}
	}
	return gone
}

func (l *loop) releaseGone(ctx context.Context, name string) {
	log := l.Log.WithField("host", name)
	erased, err := Release(ctx, l.Store, name)
	switch {
	case err == nil:
		log.Infof("host was gone for %v (--host-expiry): it is released, with %d endpoints", l.HostExpiry, erased)
	case errors.Is(err, kvstore.ErrNotFound), errors.Is(err, kvstore.ErrConflict), ctx.Err() != nil:
		log.WithError(err).Debug("another host releases it, or it came back")
	default:
		log.WithError(err).Warn("a host that is gone could not be released; trying again")
	}
}
