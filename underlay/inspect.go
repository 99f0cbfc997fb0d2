package underlay

import (
	"context"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// Inspect says whether the bridge and the containers' ports are as Apply left them.
func (p *Plane) Inspect(ctx context.Context, segment fabric.Segment) (found []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := bridgeName(segment.Network)
	if _, there, err := p.find(name); err != nil || !there {
		return []string{"the bridge " + name + " is gone"}, wrap(err)
	}
	if p.bridgeLost(name) {
		found = append(found, "the bridge "+name+" or its NIC is not as it was set up")
	}
	if p.anyPort(segment, func(_ string, port link, wanted slot) bool { return wanted.lacks(port) }) {
		found = append(found, "a container's link is down, too small or not in the bridge "+name)
	}
	if p.rules.Missing(ctx)(name) {
		found = append(found, "the rule that lets frames of "+name+" pass the host's firewall is gone")
	}
	ends, err := p.pairsOf(segment.Network.ID).List()
	if err != nil {
		return found, wrap(err)
	}
	unfiltered, err := p.filters.Inspect(p.kernel, portfilter.PortsOf(segment, ends, func(int) bool { return true }))
	return append(found, unfiltered...), wrap(err)
}

type link = netlink.Link

// slot is what a container's link has to be as a port of its bridge.
type slot struct {
	bridge int // its index
	mtu    int // at least: a bridge takes no more than its smallest port
}

// slotIn gives that of a bridge. It has the MTU of the NIC, where that is known: the host's
// own packets go by the bridge, too.
func (p *Plane) slotIn(bridge link) slot {
	wanted := slot{bridge: bridge.Attrs().Index}
	if place, ours := p.place(bridge.Attrs().Name); ours {
		if nic, found, err := p.find(place.Parent); found && err == nil {
			wanted.mtu = nic.Attrs().MTU
		}
	}
	return wanted
}

// lacks says that a container's link is not in the bridge, or down, or makes it smaller.
func (s slot) lacks(port link) bool {
	have := port.Attrs()
	return have.MasterIndex != s.bridge || have.RawFlags&unix.IFF_UP == 0 || have.MTU < s.mtu
}

// anyPort says whether what is asked holds for the link of any endpoint of the segment.
func (p *Plane) anyPort(segment fabric.Segment, holds func(endpoint string, port link, wanted slot) bool) bool {
	bridge, err := p.bridge(bridgeName(segment.Network))
	if err != nil {
		return false
	}
	ends, err := p.pairsOf(segment.Network.ID).List()
	if err != nil {
		return false
	}
	wanted := p.slotIn(bridge)
	for _, endpoint := range segment.Local {
		port, plugged := ends[nl.HostEnd(endpoint.ID)]
		if plugged && holds(endpoint.ID, port, wanted) {
			return true
		}
	}
	return false
}
