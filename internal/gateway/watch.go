package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// Changes of the kernel come in bursts: one look is enough for those that come this close
// together. The firewall changes with each container that Docker starts.
const (
	linksSettle = 50 * time.Millisecond
	rulesSettle = 300 * time.Millisecond
)

// watcher is what Watch has heard and not looked at yet.
type watcher struct {
	*Gateways
	mu    sync.Mutex
	heard map[int]bool // interfaces, by index; nil stands for all
}

// Watch calls drifted with the ID of each network whose gateway others changed, until ctx
// ends: its interface, the table, or the rules in FORWARD. What the kernel tells only makes
// it look: our own changes lead to nothing.
func (g *Gateways) Watch(ctx context.Context, drifted func(network string)) error {
	w := &watcher{Gateways: g}
	links, tables, rules := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.listen(ctx, links) })
	group.Go(func() error {
		return g.rules.Watch(ctx, func(messages []netlink.Message) {
			signal(rules)
			if messages == nil || slices.ContainsFunc(messages, g.ofTable) {
				signal(tables)
			}
		})
	})
	look := func(changes <-chan struct{}, settle time.Duration, lost func(context.Context) []string) {
		group.Go(func() error {
			for {
				if err := pause(ctx, changes, settle); err != nil {
					return err
				}
				for _, network := range lost(ctx) {
					drifted(network)
				}
			}
		})
	}
	look(links, linksSettle, w.lostLinks)
	look(tables, linksSettle, g.lostTables)
	look(rules, rulesSettle, g.lostRules)
	return group.Wait()
}

// pause waits for a change, and then for those that belong to it.
func pause(ctx context.Context, changes <-chan struct{}, settle time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changes:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
		return nil
	}
}

func signal(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default: // it is signalled already
	}
}

// listen notes which interfaces have changed. All may have before the socket was open.
func (w *watcher) listen(ctx context.Context, changed chan<- struct{}) error {
	events, err := w.Host.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("watch the gateways' interfaces: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	signal(changed)
	for {
		messages, err := events.Read(time.Time{})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, nl.ErrOverrun) {
			return fmt.Errorf("watch the gateways' interfaces: %w", errors.Join(err, events.Close()))
		}
		if w.note(messages, err != nil) {
			signal(changed)
		}
	}
}

// note says whether there is something to look at.
func (w *watcher) note(messages []syscall.NetlinkMessage, lost bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lost {
		w.heard = nil
	}
	const index, size = 4, 4 // in ifinfomsg and ifaddrmsg, rtnetlink(7)
	for _, message := range messages {
		if w.heard != nil && len(message.Data) >= index+size {
			w.heard[int(binary.NativeEndian.Uint32(message.Data[index:]))] = true
		}
	}
	return lost || len(messages) > 0
}

// lostLinks gives the networks whose interface has changed and is not as Ensure left it.
func (w *watcher) lostLinks(context.Context) []string {
	w.mu.Lock()
	heard := w.heard
	w.heard = make(map[int]bool)
	w.mu.Unlock()
	w.Gateways.mu.Lock()
	defer w.Gateways.mu.Unlock()
	var networks []string
	for id, at := range w.up {
		if (heard == nil || heard[at.index]) && w.linkLost(at.Gateway) {
			networks = append(networks, id)
		}
	}
	return networks
}

func (g *Gateways) linkLost(gateway Gateway) bool {
	link, err := g.Host.Link(gateway.Link)
	if err != nil {
		return errors.Is(err, nl.ErrNotFound)
	}
	flaws, err := g.linkFlaws(gateway, link)
	return err == nil && len(flaws) > 0
}

// lostRules gives all networks if the rules in FORWARD are not there.
func (g *Gateways) lostRules(ctx context.Context) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.up) == 0 || !g.rules.MissingRouted(ctx, prefixOf(g.Mode)) {
		return nil
	}
	return slices.Sorted(maps.Keys(g.up))
}

// ofTable says whether a message of the kernel is about one of our tables.
func (g *Gateways) ofTable(message netlink.Message) bool {
	return bytes.Contains(message.Data, []byte(g.tables[0].Name))
}

// lostTables gives all networks if a table is not as it was written.
func (g *Gateways) lostTables(context.Context) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.up) == 0 || !slices.ContainsFunc(g.tables, (*table).changed) {
		return nil
	}
	g.invalidate()
	return slices.Sorted(maps.Keys(g.up))
}

// changed says whether the kernel's table is not what it is known to be.
func (t *table) changed() bool {
	if t.have == nil {
		return false // it is read by the next Ensure
	}
	conn, err := t.open()
	if err != nil {
		return false
	}
	found, err := t.read(conn)
	return err == nil && !t.have.equal(found)
}

func (c *content) equal(other *content) bool {
	return maps.Equal(c.elements, other.elements) && maps.EqualFunc(c.chains, other.chains, slices.Equal[[]string])
}
