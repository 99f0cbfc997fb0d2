package vxlan

import (
	"syscall"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// notifications are what the kernel notified since the last comparison: of each object
// the last.
type notifications struct {
	// lost says that there were more, or that they can't be read.
	lost    bool
	links   map[int]netlink.Link // by index; nil for one that is gone
	ports   map[int]netlink.Link // with their flags in Protinfo
	tc      map[int]bool         // links whose qdiscs or filters changed, by index
	entries map[place]state
}

// place is where an entry is: its slot, and the link but for ports, where a MAC
// has one entry on all links.
type place struct {
	slot  slot
	index int32
}

// state is an entry's; valid says that it is there, and of the form that Apply writes.
type state struct {
	target target
	valid  bool
}

// maxNotifications bounds what is kept: a read-back costs less than more of them.
const maxNotifications = 1 << 14

func newNotifications() *notifications {
	return &notifications{links: map[int]netlink.Link{}, ports: map[int]netlink.Link{}, tc: map[int]bool{}, entries: map[place]state{}}
}

func (n *notifications) empty() bool { return !n.lost && n.count() == 0 }

func (n *notifications) count() int {
	return len(n.links) + len(n.ports) + len(n.tc) + len(n.entries)
}

func (n *notifications) add(messages []syscall.NetlinkMessage) {
	for _, message := range messages {
		if n.lost {
			return
		}
		switch message.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			n.addLink(message)
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			n.addEntry(message)
		case unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER, unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
			n.tc[int(rtnl.DeserializeTcMsg(message.Data).Ifindex)] = true
		}
		n.lost = n.lost || n.count() > maxNotifications
	}
}

func (n *notifications) addLink(message syscall.NetlinkMessage) {
	header := unix.NlMsghdr(message.Header)
	link, err := netlink.LinkDeserialize(&header, message.Data)
	if err != nil {
		n.lost = true
		return
	}
	index, gone := link.Attrs().Index, header.Type == unix.RTM_DELLINK
	switch {
	case link.Attrs().Protinfo != nil:
		n.ports[index] = link
	case message.Data[0] == unix.AF_BRIDGE: // a port that left, or the bridge itself: its link is told too
	case gone:
		n.links[index] = nil
		delete(n.ports, index)
	default:
		n.links[index] = link
	}
}

func (n *notifications) addEntry(message syscall.NetlinkMessage) {
	neigh, err := netlink.NeighDeserialize(message.Data)
	if err != nil {
		n.lost = true
		return
	}
	slot, target, valid := parse(neigh)
	if neigh.Vlan != 0 {
		return
	}
	at := place{slot, int32(neigh.LinkIndex)}
	if slot.table == ports {
		at.index = 0
	}
	n.entries[at] = state{target, valid && message.Header.Type == unix.RTM_NEWNEIGH}
}
