package routed

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// changes are what the kernel notified since the last comparison: of each object the
// last.
type changes struct {
	// lost says that there were more, or that they can't be read.
	lost    bool
	links   map[int]netlink.Link // by index; nil for one that is gone
	routes  map[netip.Prefix]hop // the zero hop: gone, or not of the form that we write
	entries map[entry]bool       // of the tunnels; false: gone
	failed  map[neighbour]bool   // those that are deleted: it tells no MAC
	bound   map[binding]bool     // false: gone, or not as bindMAC writes it
	// addressed are the links whose addresses changed.
	addressed map[int]bool
	// tc are the links whose qdiscs or filters changed.
	tc map[int]bool
}

type neighbour struct {
	link int
	addr netip.Addr
}

// binding is the MAC of a container behind a port of a network's bridge.
type binding struct {
	bridge, port int
	mac          fabric.MAC
}

// maxChanges bounds what is kept: a read-back costs less than more of them.
const maxChanges = 1 << 14

func newChanges() *changes {
	return &changes{
		links: make(map[int]netlink.Link), routes: make(map[netip.Prefix]hop),
		entries: make(map[entry]bool), failed: make(map[neighbour]bool), bound: make(map[binding]bool), addressed: make(map[int]bool),
		tc: make(map[int]bool),
	}
}

func (c *changes) size() int {
	return len(c.links) + len(c.routes) + len(c.entries) + len(c.failed) + len(c.bound) + len(c.addressed) + len(c.tc)
}

func (c *changes) empty() bool { return !c.lost && c.size() == 0 }

func (c *changes) add(messages []syscall.NetlinkMessage) {
	for _, message := range messages {
		if c.lost = c.lost || c.size() > maxChanges; c.lost {
			return
		}
		var err error
		switch message.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			err = c.addLink(message)
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			c.addressed[int(binary.NativeEndian.Uint32(message.Data[4:]))] = true // ifa_index
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			err = c.addEntry(message)
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			err = c.addRoute(message)
		case unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER, unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
			c.tc[int(rtnl.DeserializeTcMsg(message.Data).Ifindex)] = true
		}
		c.lost = c.lost || err != nil
	}
}

func (c *changes) addLink(message syscall.NetlinkMessage) error {
	header := unix.NlMsghdr(message.Header)
	if message.Data[0] == unix.AF_BRIDGE {
		return nil // the link itself is told too
	}
	link, err := netlink.LinkDeserialize(&header, message.Data)
	if err != nil {
		return err
	}
	if header.Type == unix.RTM_DELLINK {
		c.links[link.Attrs().Index] = nil
		return nil
	}
	c.links[link.Attrs().Index] = link
	return nil
}

func (c *changes) addEntry(message syscall.NetlinkMessage) error {
	neigh, err := netlink.NeighDeserialize(message.Data)
	if err != nil {
		return err
	}
	here := message.Header.Type == unix.RTM_NEWNEIGH
	if entry, valid := parseEntry(*neigh); valid {
		c.entries[entry] = here
	}
	if neigh.State&unix.NUD_FAILED != 0 {
		c.failed[neighbour{neigh.LinkIndex, nl.Addr(neigh.IP)}] = true
	}
	if neigh.Family == unix.AF_BRIDGE && neigh.MasterIndex != 0 && len(neigh.HardwareAddr) == len(fabric.MAC{}) {
		at := binding{neigh.MasterIndex, neigh.LinkIndex, fabric.MAC(neigh.HardwareAddr)}
		c.bound[at] = here && neigh.State&unix.NUD_NOARP != 0 && neigh.Flags&netlink.NTF_STICKY != 0
	}
	return nil
}

// addRoute takes in our own routes, and those that others put in the place of one.
func (c *changes) addRoute(message syscall.NetlinkMessage) error {
	route, main, err := nl.ParseRoute(message.Data)
	gone, ours := message.Header.Type == unix.RTM_DELROUTE, route.Protocol == fabric.RouteProtocol
	switch {
	case err != nil || !main || gone && !ours:
	case gone || !ours || !route.Plain:
		c.routes[route.Prefix] = hop{}
	default:
		c.routes[route.Prefix] = hopOf(route)
	}
	return err
}

// differing names the networks that are not as the plane has written them, "" for all.
// What the plane writes is notified before the write returns: with mu held, all that
// is written is among what has been seen or is queued.
func (p *Plane) differing(events *nl.Events, seen *changes) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for batch := 0; !seen.lost; batch++ {
		messages, err := events.Queued()
		if err == nil && len(messages) == 0 {
			break
		}
		seen.add(messages)
		seen.lost = seen.lost || err != nil || batch > maxChanges // others write as fast as we read
	}
	if len(p.networks) == 0 {
		return nil
	}
	if seen.lost || p.sharedDiffers(seen) {
		p.fresh = false
		for _, n := range p.networks {
			n.trusted = false
		}
		return []string{""}
	}
	dirty := make(map[string]bool)
	for prefix, to := range seen.routes {
		if have, there := p.table.have[prefix]; there && have != to || !there && to != (hop{}) {
			p.fresh = false
			for id, n := range p.networks {
				if within(n.segment.Network, prefix) {
					dirty[id] = true
				}
			}
		}
	}
	for id, n := range p.networks {
		if n.trusted && p.bridgeDiffers(id, n, seen) {
			n.trusted = false
			dirty[id] = true
		}
	}
	return slices.Sorted(maps.Keys(dirty))
}

// sharedDiffers looks at the tunnels, and at the links that lead to neighbours: with
// one that went down, routes go without a notification.
func (p *Plane) sharedDiffers(seen *changes) bool {
	for _, index := range p.links {
		if _, changed := seen.links[int(index)]; index != 0 && (changed || seen.addressed[int(index)]) {
			return true
		}
	}
	return p.open.differs(seen) || p.sealed.differs(seen) || p.fast.Wrong(seen.tc)
}

func (t *tunnel) differs(seen *changes) bool {
	if t.index == 0 {
		return false
	}
	for entry, there := range seen.entries {
		if t.have[entry] != there && (t.have[entry] || t.usesEnd(entry)) {
			return true
		}
	}
	if t.lostNeighbour(seen) {
		return true
	}
	link, changed := seen.links[int(t.index)]
	return changed && (link == nil || t.written == nil || len(nl.VXLANFlaws(t.written, link)) > 0)
}

func (t *tunnel) lostNeighbour(seen *changes) bool {
	if len(seen.failed) == 0 {
		return false
	}
	for entry := range t.have {
		if !entry.fdb && seen.failed[neighbour{int(t.index), entry.addr}] {
			return true
		}
	}
	return false
}

// usesEnd says whether an entry stands in the place of one of ours.
func (t *tunnel) usesEnd(e entry) bool {
	for used := range t.uses {
		if e.fdb == used.fdb && (e.fdb && used.mac == e.mac || !e.fdb && used.addr == e.addr) {
			return true
		}
	}
	return false
}

// bridgeDiffers looks at a network's bridge and its ports; package gateway looks at its
// addresses.
func (p *Plane) bridgeDiffers(id string, n *network, seen *changes) bool {
	if link, changed := seen.links[int(n.bridge)]; changed && link == nil {
		return true
	}
	for _, link := range seen.links {
		if link == nil || !strings.HasPrefix(link.Attrs().Alias, p.pairsOf(id).Mark) {
			continue
		}
		have := link.Attrs()
		if have.MasterIndex != int(n.bridge) || have.RawFlags&unix.IFF_UP == 0 || have.MTU < n.segment.MTU {
			return true
		}
	}
	for at, bound := range seen.bound {
		port, told := seen.links[at.port]
		gone := told && port == nil // and the entry with it
		if at.bridge == int(n.bridge) && !bound && !gone && hasMAC(n.segment.Local, at.mac) {
			return true
		}
	}
	return p.filtersDiffer(n, seen)
}

// filtersDiffer asks the kernel: a notification of tc has less than the filter.
func (p *Plane) filtersDiffer(n *network, seen *changes) bool {
	var changed []portfilter.Port
	for index := range seen.tc {
		port, ours := n.ports[index]
		link, told := seen.links[index]
		gone := told && link == nil // and the filter with it
		if ours && !gone {
			changed = append(changed, port)
		}
	}
	wrong, err := p.filters.Wrong(p.kernel, changed)
	return err != nil || wrong
}

func hasMAC(local []fabric.Endpoint, mac fabric.MAC) bool {
	return slices.ContainsFunc(local, func(e fabric.Endpoint) bool { return e.MAC == mac })
}
