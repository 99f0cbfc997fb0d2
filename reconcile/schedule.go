package reconcile

import "time"

// schedule says which dirty network is applied next, and when. One with a waiting Join
// comes before all others. One that was just applied is due after a short time, in which
// more changes may come; others are due at once.
type schedule struct {
	coalesce time.Duration
	dirty    map[string]turnOf
	applied  map[string]time.Time // when each network was applied last
}

type turnOf struct {
	urgent bool
	due    time.Time
}

func newSchedule(coalesce time.Duration) *schedule {
	return &schedule{coalesce: coalesce, dirty: map[string]turnOf{}, applied: map[string]time.Time{}}
}

// mark has the network applied soon.
func (s *schedule) mark(now time.Time, id string) { s.markAfter(now, id, s.coalesce) }

// markAfter is mark for what may come without an end: at least a pause lies
// between two Applies.
func (s *schedule) markAfter(now time.Time, id string, pause time.Duration) {
	due := now
	if last, ok := s.applied[id]; ok && last.Add(pause).After(now) {
		due = last.Add(pause)
	}
	s.markAt(due, id)
}

// markAt has the network applied at due, or before if it is dirty already.
func (s *schedule) markAt(due time.Time, id string) {
	if turn, dirty := s.dirty[id]; dirty && !turn.due.After(due) {
		return
	}
	s.dirty[id] = turnOf{urgent: s.dirty[id].urgent, due: due}
}

// hurry has the network applied next: a Join waits for it.
func (s *schedule) hurry(now time.Time, id string) { s.dirty[id] = turnOf{urgent: true, due: now} }

// next gives the network to apply now, or else how long none is due.
func (s *schedule) next(now time.Time, idle time.Duration) (id string, wait time.Duration) {
	var best turnOf
	for candidate, turn := range s.dirty {
		if id == "" || turn.before(best) || turn == best && candidate < id {
			id, best = candidate, turn
		}
	}
	if id == "" {
		return "", idle
	}
	if wait := best.due.Sub(now); wait > 0 {
		return "", min(wait, idle)
	}
	return id, 0
}

func (t turnOf) before(other turnOf) bool {
	if t.urgent != other.urgent {
		return t.urgent
	}
	return t.due.Before(other.due)
}

// take notes that the network is applied now.
func (s *schedule) take(now time.Time, id string) {
	delete(s.dirty, id)
	s.applied[id] = now
}

// forget drops a network that is not this host's any more.
func (s *schedule) forget(id string) {
	delete(s.dirty, id)
	delete(s.applied, id)
}

// skip puts a network off until it is marked again.
func (s *schedule) skip(id string) { delete(s.dirty, id) }
