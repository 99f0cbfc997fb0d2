package vxlanport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// Watch calls drifted with each network whose device or entries others changed, until ctx
// ends. The next Ensure of such a network reads the kernel back.
func (p *Ports) Watch(ctx context.Context, drifted func(network string)) error {
	events, err := p.Host.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	seen := changes{lost: true} // what happened before was not told
	for {
		for _, network := range p.differing(events, seen) {
			drifted(network)
		}
		messages, err := events.Read(time.Time{})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		seen = changes{}
		if err := seen.add(messages, err); err != nil {
			return fmt.Errorf("watch devices of encrypted networks: %w", errors.Join(err, events.Close()))
		}
	}
}

// changes are what the kernel told of links and FDB entries; of each entry the last counts.
type changes struct {
	links   map[int]bool
	entries map[int]entries // by link; the zero Addr: it is gone
	lost    bool            // there were more
}

func (c *changes) add(messages []syscall.NetlinkMessage, err error) error {
	if errors.Is(err, nl.ErrOverrun) {
		c.lost, err = true, nil
	}
	for _, message := range messages {
		switch message.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if link, err := netlink.LinkDeserialize(nil, message.Data); err == nil && link.Attrs() != nil {
				if c.links == nil {
					c.links = make(map[int]bool)
				}
				c.links[link.Attrs().Index] = true
			}
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			if entry, err := netlink.NeighDeserialize(message.Data); err == nil && entry.Family == unix.AF_BRIDGE {
				c.entry(entry, message.Header.Type == unix.RTM_NEWNEIGH)
			}
		}
	}
	return err
}

func (c *changes) entry(entry *netlink.Neigh, there bool) {
	s, vtep, valid := parse(entry)
	if !valid {
		return
	}
	if c.entries == nil {
		c.entries = make(map[int]entries)
	}
	if c.entries[entry.LinkIndex] == nil {
		c.entries[entry.LinkIndex] = make(entries)
	}
	if !there {
		vtep = netip.Addr{}
	}
	c.entries[entry.LinkIndex][s] = vtep
}

// differing gives the networks that are not as they were written, after all that the kernel
// has told of the writes before.
func (p *Ports) differing(events *nl.Events, seen changes) (networks []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		messages, err := events.Queued()
		if err := seen.add(messages, err); err != nil || len(messages) == 0 {
			break // Read tells of the error
		}
	}
	for network, d := range p.devices {
		switch {
		case !d.trusted: // it is read back anyway
			continue
		case seen.lost:
		case seen.links[d.index] && p.flaw(d) != "":
		case d.changed(seen.entries[d.index]):
		default:
			continue
		}
		d.trusted = false
		networks = append(networks, network)
	}
	return networks
}

// changed says that an entry is not as it was written.
func (d *device) changed(seen entries) bool {
	for s, vtep := range seen {
		if d.entries[s] != vtep {
			return true
		}
	}
	return false
}

// flaw says what is wrong with a device; empty when nothing is.
func (p *Ports) flaw(d *device) string {
	link, err := p.Host.Link(d.want.Name)
	if err != nil || link.Attrs().Index != d.index {
		return "is not there"
	}
	if reason := nl.Incompatible(d.want, link); reason != "" {
		return reason
	}
	if flaws := nl.VXLANFlaws(d.want, link); len(flaws) > 0 {
		return flaws[0].What
	}
	return ""
}
