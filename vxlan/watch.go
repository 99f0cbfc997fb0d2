package vxlan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

const (
	// settle is the least time between two read-backs of a network that drifts.
	settle = 200 * time.Millisecond
	// gather is how long notifications that belong together are waited for: a
	// link that goes leaves its bridge first.
	gather = 50 * time.Millisecond
	// nameCheck is how often the namespaces' names are looked at: the kernel
	// does not tell that one was unmounted.
	nameCheck = 500 * time.Millisecond
)

// watcher is what the plane's goroutine and Watch share.
type watcher struct {
	mu sync.Mutex
	// begin, while Watch runs, watches a segment; before says that it was open
	// already when Watch began.
	begin func(s *segment, before bool)
}

func (p *Plane) add(s *segment) {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	p.segments[s.network] = s
	if p.watcher.begin != nil {
		p.watcher.begin(s, false)
	}
}

func (p *Plane) forget(network string) {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	delete(p.segments, network)
}

// Watch listens to the kernel's notifications from the namespaces of the plane's
// networks until ctx ends, or one can't be listened to. It calls drifted with the ID of a network when a
// notification differs from what the plane has written: the next Apply reads
// that network back.
func (p *Plane) Watch(ctx context.Context, drifted func(network string)) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	fail := func(object string, err error) {
		select {
		case failed <- fmt.Errorf("vxlan: watch %s: %w", object, err):
		default:
		}
	}
	p.watchAll(func(s *segment, before bool) {
		events, err := s.subscribe()
		if err != nil {
			fail("network "+s.network, err)
			return
		}
		running.Go(func() {
			if err := s.watch(events, before, drifted); !errors.Is(err, os.ErrClosed) {
				fail("network "+s.network, err)
			}
		})
	})
	defer p.watchNone()

	defer cancel()
	running.Go(func() { fail("the gateways", p.watchGateways(ctx, drifted)) })
	names := time.NewTicker(nameCheck)
	defer names.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-names.C:
		}
		for _, s := range p.opened() {
			if s.lostName() {
				drifted(s.network)
			}
		}
	}
}

func (p *Plane) watchAll(begin func(s *segment, before bool)) {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	p.watcher.begin = begin
	for _, s := range p.segments {
		begin(s, true)
	}
}

func (p *Plane) watchNone() {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	p.watcher.begin = nil
	for _, s := range p.segments {
		s.unsubscribe()
	}
}

func (p *Plane) opened() []*segment {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	return slices.Collect(maps.Values(p.segments))
}

// lostName says that the namespace's name is gone or another's.
func (s *segment) lostName() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled || s.IsBound(s.path) {
		return false
	}
	s.trusted = false
	return true
}

func (s *segment) subscribe() (*nl.Events, error) {
	events, err := s.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_TC)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = events
	return events, nil
}

func (s *segment) unsubscribe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events != nil {
		s.events.Close()
		s.events = nil
	}
}

// watch collects notifications until events is closed, and compares them with
// what is known. before says that the segment was open before it was watched.
func (s *segment) watch(events *nl.Events, before bool, drifted func(network string)) error {
	seen := newNotifications()
	seen.lost = before
	var last, next time.Time // next is zero while there is nothing to compare
	for {
		if next.IsZero() && !seen.empty() {
			next = later(last.Add(settle), time.Now().Add(gather))
		}
		messages, err := events.Read(next)
		switch {
		case err == nil:
			seen.add(messages)
		case errors.Is(err, nl.ErrOverrun):
			seen.lost = true
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.differs(events, seen) {
				drifted(s.network)
			}
			seen, last, next = newNotifications(), time.Now(), time.Time{}
		default:
			return err
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// differs says that the kernel is not as the plane has written it. What
// the plane writes is notified before the write returns: with mu held, all that
// is written is among what has been seen or is queued.
func (s *segment) differs(events *nl.Events, seen *notifications) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for batch := 0; !seen.lost; batch++ {
		messages, err := events.Queued()
		if err == nil && len(messages) == 0 {
			break
		}
		seen.add(messages)
		seen.lost = seen.lost || err != nil || batch > maxNotifications // others write as fast as we read
	}
	if !s.settled || !seen.lost && s.agrees(seen) {
		return false
	}
	s.trusted = false
	return true
}

// agrees says whether all that was seen is as the plane has written it. It
// forgets the pairs of containers that are gone.
func (s *segment) agrees(seen *notifications) bool {
	for name, index := range s.ends {
		if link, ok := seen.links[int(index)]; ok && link == nil {
			s.forgetEnd(name)
		}
	}
	known := map[int]func(netlink.Link) bool{
		int(s.bridge): func(link netlink.Link) bool { return len(s.bridgeFlaws(link)) == 0 },
		int(s.tunnel): func(link netlink.Link) bool {
			return nl.Incompatible(s.device, link) == "" && len(s.tunnelFlaws(link)) == 0
		},
	}
	for _, index := range s.ends {
		known[int(index)] = func(link netlink.Link) bool { return len(s.endFlaws(link)) == 0 }
	}
	for index, link := range seen.links {
		if right, ours := known[index]; ours && (link == nil || !right(link)) {
			return false
		}
	}
	for index, port := range seen.ports {
		if _, ours := known[index]; ours && len(s.flagFlaws(port, *port.Attrs().Protinfo)) > 0 {
			return false
		}
	}
	if !s.filtered(seen.tc) {
		return false
	}
	for place, state := range seen.entries {
		have, ok := s.written[place.slot]
		if s.concerns(place.slot, place.index) && (ok != state.valid || ok && have != state.target) {
			return false
		}
	}
	return true
}
