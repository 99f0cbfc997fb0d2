// Package grace tells how long something has been seen without a break, so that
// nothing is deleted after one observation: what was seen for less than a grace time
// may be changing right now.
package grace

import "time"

// Tracker holds since when each K has been seen in every observation. The zero Tracker
// is ready; it is for one goroutine.
type Tracker[K comparable] struct {
	since map[K]time.Time
}

// Observe takes in one complete observation: what is not in seen is forgotten. It
// returns those that have been seen in every one for at least d.
func (t *Tracker[K]) Observe(now time.Time, seen []K, d time.Duration) (due []K) {
	next := make(map[K]time.Time, len(seen))
	for _, k := range seen {
		first, known := t.since[k]
		if !known {
			first = now
		}
		if _, twice := next[k]; twice {
			continue
		}
		next[k] = first
		if known && now.Sub(first) >= d {
			due = append(due, k)
		}
	}
	t.since = next
	return due
}

// Len is how many are being watched.
func (t *Tracker[K]) Len() int { return len(t.since) }
