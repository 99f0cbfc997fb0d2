package mirror

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/internal/health"
)

const (
	// fullEvery is how often all is compared although nothing was heard.
	fullEvery = time.Minute
	// listingTime is how long the engine may take from telling the driver of a
	// network to listing it.
	listingTime = 15 * time.Second
	// removingTime is how long the engine may list a network after it told the
	// driver of its removal.
	removingTime = 5 * time.Second
)

// pass is what the passes remember from one to the next; one goroutine uses it.
type pass struct {
	unlisted  grace.Tracker[string] // attachments without a network in the engine
	strays    grace.Tracker[string] // the cluster's networks in the engine without an attachment
	displaced displaced
	silent    bool // the engine did not answer the last one
}

// reconcile compares whenever there is a reason to.
func (m *Mirror) reconcile(ctx context.Context) error {
	var p pass
	for {
		if err := m.Ready(ctx); err != nil {
			return err
		}
		wait := fullEvery
		if !m.once(ctx, &p) {
			wait = retryAfter
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.wake:
		case <-time.After(wait):
			if wait == fullEvery {
				// No event tells of a stopped container that is connected or disconnected.
				m.containers.Relist(false)
			}
		}
	}
}

// once brings engine and records in line, and says whether nothing is left to do.
func (m *Mirror) once(ctx context.Context, p *pass) bool {
	if p.silent { // the records are copied for an engine that answers
		if _, ok := m.listed(ctx, p); !ok {
			return false
		}
	}
	s, ready := m.recorded()
	if !ready {
		return true // the records wake us
	}
	var ok bool
	if s.local, ok = m.listed(ctx, p); !ok {
		return false
	}
	m.putBacks.observe(s)
	s.removed = m.putBacks.removed()
	m.track(p, s)
	steps := compare(s)
	concerned := make(map[string]bool)
	for _, step := range steps {
		concerned[step.scope().Object] = true
		m.Board.Report(step.scope(), m.take(ctx, p, step))
	}
	m.Board.Retain(health.Mirror, func(object string) bool { return concerned[object] || isPrefix(object) })
	m.expireNotices(s)
	m.checkGateway(ctx, s)
	m.checkDisplaced(ctx, &p.displaced, s)
	return len(steps) == 0 && p.unlisted.Len() == 0 && p.strays.Len() == 0 && len(p.displaced.networks) == 0
}

// listed gives the engine's networks, if it answers.
func (m *Mirror) listed(ctx context.Context, p *pass) ([]network.Network, bool) {
	networks, err := m.engine.Networks(ctx)
	if p.silent = err != nil; ctx.Err() == nil {
		m.reportEngine(err)
	}
	return networks, err == nil
}

// isPrefix says that a fault is about the records below a prefix.
func isPrefix(object string) bool { return object != "" && object[len(object)-1] == '/' }

// recorded gives the records' part of the state, and whether it is complete.
func (m *Mirror) recorded() (state, bool) {
	networks, synced := m.networks.All()
	attachments, alsoSynced := m.attachments.All()
	return state{
		networks: networks, attachments: attachments, driver: m.Driver,
		lost: make(map[string]bool), stray: make(map[string]bool),
	}, synced && alsoSynced
}

// track marks in s what has been out of line for longer than the engine takes. A
// network that the engine said it removed is lost at once.
func (m *Mirror) track(p *pass, s state) {
	listed := make(map[string]bool, len(s.local))
	var unlisted, strays []string
	for _, local := range s.local {
		listed[local.ID] = true
		if _, attached := s.attachments[local.ID]; attached {
			continue
		}
		if _, ours := s.clusterOf(local); ours {
			strays = append(strays, local.ID)
		}
	}
	for dockerID := range s.attachments {
		if !listed[dockerID] {
			unlisted = append(unlisted, dockerID)
			s.lost[dockerID] = m.putBacks.destroyed(dockerID)
		}
	}
	for _, dockerID := range p.unlisted.Observe(time.Now(), unlisted, listingTime) {
		s.lost[dockerID] = true
	}
	for _, dockerID := range p.strays.Observe(time.Now(), strays, removingTime) {
		s.stray[dockerID] = true
	}
}
