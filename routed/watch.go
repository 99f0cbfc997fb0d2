package routed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// gather is how long notifications that belong together are waited for.
const gather = 50 * time.Millisecond

// Watch listens to the kernel's notifications until ctx ends, and calls drifted with
// the networks whose routes, bridge, ports and their filters, tunnel or rules are not as they were
// written.
func (p *Plane) Watch(ctx context.Context, drifted func(network string)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watchKernel(ctx, drifted) })
	group.Go(func() error {
		return p.gateways.Watch(ctx, func(network string) {
			p.distrust(network)
			drifted(network)
		})
	})
	return group.Wait()
}

func (p *Plane) watchKernel(ctx context.Context, drifted func(network string)) error {
	events, err := p.kernel.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_TC)
	if err != nil {
		return fmt.Errorf("routed: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	seen, next := newChanges(), time.Now()
	seen.lost = true // what changed before
	for {
		messages, err := events.Read(next)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			for _, network := range p.differing(events, seen) {
				drifted(network)
			}
			seen, next = newChanges(), time.Time{}
			continue
		case errors.Is(err, nl.ErrOverrun):
			seen.lost = true
		case err != nil:
			return fmt.Errorf("routed: %w", errors.Join(err, events.Close()))
		}
		if seen.add(messages); next.IsZero() && !seen.empty() {
			next = time.Now().Add(gather)
		}
	}
}

func (p *Plane) distrust(network string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.networks[network]; n != nil {
		n.trusted = false
	}
}
