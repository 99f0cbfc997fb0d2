package kvstore

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause is the wait between tries: it doubles from 50 ms to 3 s, give or take
// a quarter, so that hosts do not all come back at one moment.
type pause struct {
	next time.Duration
}

// after waits, or returns at once when ctx ends.
func (p *pause) after(ctx context.Context) {
	const first, most = 50 * time.Millisecond, 3 * time.Second
	p.next = min(max(2*p.next, first), most)
	timer := time.NewTimer(p.next*3/4 + rand.N(p.next/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (p *pause) reset() { p.next = 0 }
