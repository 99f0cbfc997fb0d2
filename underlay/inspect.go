package underlay

import (
	"context"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
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
	if p.anyPort(segment, func(_ string, port link, bridge int) bool { return astray(port, bridge) }) {
		found = append(found, "a container's link is down or not in the bridge "+name)
	}
	if p.rules.Missing(ctx)(name) {
		found = append(found, "the rule that lets frames of "+name+" pass the host's firewall is gone")
	}
	return found, nil
}

type link = netlink.Link

// astray says that a container's link is not in the bridge, or down.
func astray(port link, bridge int) bool {
	return port.Attrs().MasterIndex != bridge || port.Attrs().RawFlags&unix.IFF_UP == 0
}

// anyPort says whether what is asked holds for the link of any endpoint of the segment.
func (p *Plane) anyPort(segment fabric.Segment, holds func(endpoint string, port link, bridge int) bool) bool {
	bridge, err := p.bridge(bridgeName(segment.Network))
	if err != nil {
		return false
	}
	ends, err := p.pairsOf(segment.Network.ID).List()
	if err != nil {
		return false
	}
	for _, endpoint := range segment.Local {
		port, plugged := ends[nl.HostEnd(endpoint.ID)]
		if plugged && holds(endpoint.ID, port, bridge.Attrs().Index) {
			return true
		}
	}
	return false
}
