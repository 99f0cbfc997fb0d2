package hostfilter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	netfilter "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// settle is the least time between two repairs: others may write as fast as we do.
const settle = 200 * time.Millisecond

// Watch writes the table again where others have changed it, and follows which bridges
// are parts of the LAN, until ctx ends.
func (f *Filter) Watch(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.watchTable(ctx) })
	group.Go(func() error { return f.watchLinks(ctx) })
	if err := group.Wait(); ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("host filter: watch: %w", err)
	}
	return nil
}

func (f *Filter) watchTable(ctx context.Context) error {
	const groups = 1 << (unix.NFNLGRP_NFTABLES - 1)
	conn, err := netfilter.Dial(unix.NETLINK_NETFILTER, &netfilter.Config{NetNS: int(f.host.NS()), Groups: groups})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	changed := true // what was missed before
	for {
		if changed {
			if err := f.repair(); err != nil {
				f.Log.Warn(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(settle):
			}
		}
		messages, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS): // some were lost
			changed = true
		case err != nil:
			return errors.Join(err, conn.Close())
		default:
			changed = f.foreign(messages)
		}
	}
}

// foreign says that others than this Filter have changed the table.
func (f *Filter) foreign(messages []netfilter.Message) bool {
	for _, message := range messages {
		if message.Header.PID != f.port && concerns(message) {
			f.Log.Warnf("table %s of nf_tables was changed by others; it is restored", tableName)
			return true
		}
	}
	return false
}

// concerns says whether a notification is about our table: all of nf_tables' but those of
// generations begin with the table's name (linux/netfilter/nf_tables.h).
func concerns(message netfilter.Message) bool {
	const header, attribute = 4, 4 // struct nfgenmsg, struct nlattr
	kind, data := message.Header.Type&0xff, message.Data
	if message.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || kind == unix.NFT_MSG_NEWGEN || len(data) < header+attribute {
		return false
	}
	if data[0] != byte(table().Family) {
		return false
	}
	length := int(binary.NativeEndian.Uint16(data[header:]))
	if length < attribute || header+length > len(data) {
		return false
	}
	return string(data[header+attribute:header+length]) == tableName+"\x00"
}

func (f *Filter) repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.install(); err != nil {
		return fmt.Errorf("host filter: %w", err)
	}
	return nil
}

func (f *Filter) watchLinks(ctx context.Context) error {
	events, err := f.host.Subscribe(unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	known := make(map[int]place)
	changed := true // what was missed before
	for {
		if changed {
			if err := f.updateBridges(); err != nil {
				f.Log.Warn(err)
			}
		}
		messages, err := events.Read(time.Time{})
		switch {
		case errors.Is(err, os.ErrClosed):
			return ctx.Err()
		case errors.Is(err, nl.ErrOverrun):
			changed = true
		case err != nil:
			return err
		default:
			changed = learn(known, messages)
		}
	}
}

// place is what of a link decides which bridges are parts of the LAN.
type place struct {
	name, alias string
	master      int
}

// learn notes the links that changed, but for containers', and says whether that is news.
func learn(known map[int]place, messages []syscall.NetlinkMessage) (news bool) {
	for _, message := range messages {
		link, err := netlink.LinkDeserialize(nil, message.Data)
		if err != nil {
			return true
		}
		if guest(link) {
			continue
		}
		attrs := link.Attrs()
		now := place{attrs.Name, attrs.Alias, attrs.MasterIndex}
		if message.Header.Type == unix.RTM_DELLINK {
			delete(known, attrs.Index)
			news = true
		} else if known[attrs.Index] != now {
			known[attrs.Index] = now
			news = true
		}
	}
	return news
}
