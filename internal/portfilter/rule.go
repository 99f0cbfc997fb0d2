package portfilter

import (
	"cmp"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Rule is what one container may send, and how fast.
type Rule struct {
	// Endpoint is Docker's EndpointID.
	Endpoint string
	MAC      fabric.MAC
	// Addrs are the container's own, Floats those that move between containers: with
	// them, the MACs of virtual routers are allowed (RFC 5798 §7.3).
	Addrs, Floats []netip.Addr
	// Anyone says that the container may send as whoever it likes.
	Anyone bool
	// Broadcasts are the broadcast, ARP and neighbour discovery frames a second; zero
	// for no limit.
	Broadcasts int
	// Rate is in bits a second each way; zero for no limit.
	Rate uint64
}

// RuleOf gives the rule for an endpoint. To its addresses comes the link-local one
// that its MAC makes, as the kernel of every container does.
func RuleOf(network fabric.Network, endpoint fabric.Endpoint) Rule {
	rule := Rule{
		Endpoint: endpoint.ID, MAC: endpoint.MAC, Floats: network.Allow, Anyone: network.Spoofing,
		Broadcasts: max(0, cmp.Or(network.BroadcastRate, fabric.DefaultBroadcastRate)), Rate: network.Rate,
	}
	for _, prefix := range endpoint.Addrs {
		rule.Addrs = append(rule.Addrs, prefix.Addr().Unmap())
	}
	rule.Addrs = append(rule.Addrs, endpoint.MAC.LinkLocal())
	return rule
}

// open says that a rule forbids nothing, so that no program is needed.
func (r Rule) open() bool { return r.Anyone && r.Broadcasts == 0 && r.Rate == 0 }

// PortsOf gives the ports of the segment's containers whose host's ends are among ends,
// by their names, and that include wants by the link's index.
func PortsOf(segment fabric.Segment, ends map[string]netlink.Link, include func(index int) bool) []Port {
	var ports []Port
	for _, endpoint := range segment.Local {
		end, there := ends[nl.HostEnd(endpoint.ID)]
		if there && include(end.Attrs().Index) {
			ports = append(ports, Port{End: end, Rule: RuleOf(segment.Network, endpoint)})
		}
	}
	return ports
}
