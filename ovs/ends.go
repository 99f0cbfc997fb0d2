package ovs

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// The host's ends of the pairs are ports of the switch, whose database does not tell what
// else is done to them.

// sunk says that a host's end is down, or takes less than its network's MTU.
func sunk(end netlink.Link, mtu int) bool {
	have := end.Attrs()
	return have.RawFlags&unix.IFF_UP == 0 || have.MTU < mtu
}

// raise sets right what is sunk.
func (l links) raise(end netlink.Link, mtu int) error {
	return errors.Join(l.LinkSetMTU(end, max(end.Attrs().MTU, mtu)), l.LinkSetUp(end))
}

// ends watches the host's ends.
func (w watcher) ends(ctx context.Context) error {
	events, err := w.links.Subscribe(unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	changed, lost := map[int]bool{}, false
	note := func(messages []syscall.NetlinkMessage, err error) error {
		for _, message := range messages {
			if link, err := netlink.LinkDeserialize(nil, message.Data); err == nil && nl.IsHostEnd(link.Attrs().Name) {
				changed[link.Attrs().Index] = message.Header.Type == unix.RTM_NEWLINK
			}
		}
		if errors.Is(err, nl.ErrOverrun) {
			lost, err = true, nil
		}
		return err
	}
	for {
		if err := note(events.Read(time.Time{})); err != nil {
			return err
		}
		var stale []string
		err := w.activity.settle(ctx, func() error { return note(events.Queued()) }, func() {
			if stale = w.sunken(changed); lost {
				stale = []string{static}
			}
			lost = false
			clear(changed)
			w.mark(stale)
		})
		if err != nil {
			return err
		}
		w.tell(stale)
	}
}

// sunken gives the networks of which an end is sunk. One that goes is down before.
func (w watcher) sunken(changed map[int]bool) (stale []string) {
	if w.have == nil {
		return nil // the next Apply looks anyway
	}
	for index, there := range changed {
		link, err := w.links.LinkByIndex(index)
		if err != nil || !there {
			continue
		}
		endpoint, ours := strings.CutPrefix(link.Attrs().Alias, aliasPrefix)
		port, known := w.have.ports[endpoint]
		if ours && known && sunk(link, w.known[port.network].segment.MTU) {
			stale = append(stale, port.network)
		}
	}
	return stale
}
