package records

import (
	"sync"
	"time"
)

// EarlyReleases are addresses that were quarantined with their endpoint, before the
// engine says that it releases them. When it does so another container may have the
// address already, of which nothing must be released. A nil one has none.
type EarlyReleases struct {
	mu   sync.Mutex
	keys map[string]time.Time // when they were quarantined; guarded by mu
}

// earlyBy is how long after its endpoint an engine releases an address at the latest.
// One that was killed meanwhile does not do so at all.
const earlyBy = time.Minute

// Add notes the keys of addresses that were quarantined.
func (e *EarlyReleases) Add(now time.Time, keys ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys == nil {
		e.keys = map[string]time.Time{}
	}
	for key, at := range e.keys {
		if now.Sub(at) > earlyBy {
			delete(e.keys, key)
		}
	}
	for _, key := range keys {
		e.keys[key] = now
	}
}

// Take says whether the address was quarantined early, and forgets it.
func (e *EarlyReleases) Take(now time.Time, key string) bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at, early := e.keys[key]
	delete(e.keys, key)
	return early && now.Sub(at) <= earlyBy
}
