package underlay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// Changes of the kernel come in bursts: one look is enough for those that come
// this close together. The firewall changes with each container that Docker starts.
const (
	linksSettle = 50 * time.Millisecond
	rulesSettle = 300 * time.Millisecond
)

// Watch calls drifted with the ID of each network that others changed, until ctx
// ends: its bridge is gone or has lost its NIC or a container's link, a port its filter, its
// firewall rule was flushed, or a container came up and has to be announced.
// What the kernel tells only makes it look: our own changes lead to nothing.
func (p *Plane) Watch(ctx context.Context, drifted func(network string)) error {
	links, rules := make(chan struct{}, 1), make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.listen(ctx, func() { signal(links) }) })
	group.Go(func() error { return wrap(p.rules.Watch(ctx, func([]netlink.Message) { signal(rules) })) })
	look := func(changes <-chan struct{}, settle time.Duration, find func(context.Context) []string) {
		group.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-changes:
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(settle):
				}
				for _, network := range find(ctx) {
					drifted(network)
				}
			}
		})
	}
	look(links, linksSettle, p.lostLinks)
	look(rules, rulesSettle, p.lostRules)
	return group.Wait()
}

func signal(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default: // it is signalled already
	}
}

// listen calls changed when links or addresses have changed. They may have before
// the socket was open.
func (p *Plane) listen(ctx context.Context, changed func()) error {
	events, err := p.kernel.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_TC)
	if err != nil {
		return wrap(err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	p.touched.addAll()
	for {
		changed()
		messages, err := events.Read(time.Time{})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, nl.ErrOverrun) {
			return wrap(errors.Join(err, events.Close()))
		}
		if p.touched.add(messages); err != nil {
			p.touched.addAll()
		}
	}
}

// lostLinks names the networks whose links are not as Apply left them; the next
// Apply reads them back.
func (p *Plane) lostLinks(context.Context) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lost []string
	touched := p.touched.take()
	for _, id := range slices.Sorted(maps.Keys(p.applied)) {
		if p.bridgeLost(bridgeName(p.applied[id].Network)) || p.portLost(id, touched) {
			lost = append(lost, id)
			delete(p.applied, id)
		}
	}
	return lost
}

func (p *Plane) bridgeLost(name string) bool {
	if !p.mover.Has(name) {
		return false
	}
	fine, err := p.mover.InPlace(name)
	return err == nil && !fine
}

// portLost says that a container's link is not as it has to be, or that it came up
// and was not announced since, or that one which was touched is not filtered.
func (p *Plane) portLost(id string, touched func(index int) bool) bool {
	segment := p.applied[id]
	if p.anyPort(segment, func(endpoint string, port link, wanted slot) bool {
		return wanted.lacks(port) || p.unheard[endpoint] != "" && hasCarrier(port)
	}) {
		return true
	}
	ends, err := p.pairsOf(id).List()
	if err != nil {
		return false
	}
	wrong, err := p.filters.Wrong(p.kernel, portfilter.PortsOf(segment, ends, touched))
	return err != nil || wrong
}

// lostRules names the networks whose firewall rule is gone.
func (p *Plane) lostRules(ctx context.Context) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.applied) == 0 {
		return nil
	}
	missing := p.rules.Missing(ctx)
	var lost []string
	for _, id := range slices.Sorted(maps.Keys(p.applied)) {
		if missing(bridgeName(p.applied[id].Network)) {
			lost = append(lost, id)
			delete(p.applied, id)
		}
	}
	return lost
}
