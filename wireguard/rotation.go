package wireguard

import (
	"cmp"
	"slices"
	"time"
)

// Timing are the times of a rotation; a zero field takes the default.
type Timing struct {
	// Tick is how often a rotation is looked at (1 s).
	Tick time.Duration
	// Settle is how long after the last host has let the next key in it is used (10 s):
	// the planes of that host follow its device.
	Settle time.Duration
	// Patience is how long it waits for hosts that it had no session with lately (1 min).
	Patience time.Duration
	// Reject is how old a session gets at most, and how long nothing has come or gone by
	// the last key's device when that goes (3 min; REJECT_AFTER_TIME of WireGuard).
	Reject time.Duration
}

func (t Timing) orDefault() Timing {
	t.Tick = cmp.Or(t.Tick, time.Second)
	t.Settle = cmp.Or(t.Settle, 10*time.Second)
	t.Patience = cmp.Or(t.Patience, time.Minute)
	t.Reject = cmp.Or(t.Reject, 3*time.Minute)
	return t
}

// handshakes are when this host last made a session with a peer; the zero Time: never.
type handshakes struct {
	// now is with the key in use, next with the next one, under which the peer began:
	// it has read of it, and its packets come through.
	now, next time.Time
}

// offering is a next key that others were told of.
type offering struct {
	since   time.Time
	settled time.Time // since when nobody is waited for; the zero Time: somebody is
}

// observe says which hosts the next key waits for, and whether it can be used: no packet
// may come to a host that does not let it in yet. It waits without an end for those that
// this host has a session with, and for a time for the others, which may be gone.
func (o *offering) observe(now time.Time, hosts map[string]handshakes, t Timing) (waits []string, use bool) {
	for host, made := range hosts {
		if made.next.IsZero() && (now.Sub(made.now) < t.Reject || now.Sub(o.since) < t.Patience) {
			waits = append(waits, host)
		}
	}
	slices.Sort(waits)
	switch {
	case len(waits) > 0:
		o.settled = time.Time{}
	case o.settled.IsZero():
		o.settled = now
	}
	return waits, len(waits) == 0 && now.Sub(o.settled) >= t.Settle
}

// leaving is the last key's device, after the other hosts were told not to send there.
type leaving struct {
	bytes int64     // that came and went by it
	since time.Time // since when it is so many
}

// observe says whether the device may go: a host that could not read of the new key still
// sends there, and is heard.
func (l *leaving) observe(now time.Time, bytes int64, t Timing) bool {
	if l.since.IsZero() || bytes > l.bytes { // less are there when a peer goes
		l.since = now
	}
	l.bytes = bytes
	return now.Sub(l.since) >= t.Reject
}
