package fabric

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// State is what one host has read of the cluster's records.
type State struct {
	Hosts map[string]Host // by name
	// Frames are [FramesOf] the hosts, so that a plan does not go through them all; nil:
	// it does.
	Frames   map[Frame]bool
	Networks map[string]Network // by ID
	// Endpoints are by network ID, then by endpoint ID.
	Endpoints map[string]map[string]Endpoint
	// Blocks are those of the pools of routed networks, by network ID; sorted by
	// prefix ([SortBlocks]), without overlaps.
	Blocks map[string][]Block
	// Attached are the IDs of the networks that this host's Docker has.
	Attached map[string]bool
	// Forced are those of them that this host's own engine was given -o force for.
	Forced map[string]bool
}

// Plan gives the segments that the host self must apply: one for each network
// that it has an endpoint on, and one for each underlay network that its Docker
// has (its bridge stays while containers come and go), sorted by network ID. An
// endpoint gets no peer while its host is not known or no tunnel can lead there
// ([CheckPeer]).
func Plan(s State, self string) []Segment {
	var segments []Segment
	for _, id := range slices.Sorted(maps.Keys(s.Networks)) {
		segment := segmentOf(s, s.Networks[id], self)
		if len(segment.Local) > 0 || segment.Network.Mode == ModeUnderlay && s.Attached[id] {
			segments = append(segments, segment)
		}
	}
	return segments
}

func segmentOf(s State, network Network, self string) Segment {
	network.Force = s.Forced[network.ID]
	frames := s.Frames
	if frames == nil {
		frames = FramesOf(s.Hosts)
	}
	segment := Segment{Network: network, VTEP: vtepOn(network, s.Hosts[self]), MTU: mtuOf(frames, network)}
	if network.Mode == ModeRouted {
		segment.TunnelMTU = mtuOf(frames, Network{Mode: ModeRouted, Via: ViaVXLAN, Encrypted: network.Encrypted})
	}
	endpoints := s.Endpoints[network.ID]
	remote := make(map[string]int)
	vteps := make(map[string]netip.Addr)
	for _, id := range slices.Sorted(maps.Keys(endpoints)) {
		endpoint := endpoints[id]
		if endpoint.Host == self {
			segment.Local = append(segment.Local, endpoint)
			continue
		}
		if remote[endpoint.Host]++; remote[endpoint.Host] == 1 && tunnelled(network, s.Hosts[self], s.Hosts[endpoint.Host]) {
			vteps[endpoint.Host] = vtepOn(network, s.Hosts[endpoint.Host])
		}
		if vtep, ok := vteps[endpoint.Host]; ok {
			segment.Remote = append(segment.Remote, Peer{Endpoint: endpoint, VTEP: vtep})
		}
	}
	segment.Flood, segment.Others = FloodTo(s, network, self, remote), OthersOf(s, network, self, remote)
	segment.Routes = routesOf(s, network, self)
	return segment
}

// Frame is what a host adds to the MTU of a network: the MTU of its VTEP's device, in
// bytes, and the family of its VTEP, as the address that is unspecified in it.
type Frame struct {
	VTEP netip.Addr
	MTU  int
}

// FramesOf gives those of all hosts, which are few.
func FramesOf(hosts map[string]Host) map[Frame]bool {
	frames := make(map[Frame]bool)
	for _, host := range hosts {
		frame := Frame{netip.IPv4Unspecified(), host.MTU}
		if outerHeader(host.VTEP) > outerHeader(frame.VTEP) {
			frame.VTEP = netip.IPv6Unspecified()
		}
		frames[frame] = true
	}
	return frames
}

// mtuOf gives the MTU that fits through every host's VTEP device, so that a
// packet never has to be fragmented on its way to a host with smaller frames. A
// host's MTU that no container could have is ignored.
func mtuOf(frames map[Frame]bool, network Network) int {
	if network.MTU > 0 {
		return network.MTU
	}
	smallest, least := 0, minMTU(network)
	for frame := range frames {
		mtu := frame.MTU - Overhead(network, frame.VTEP)
		if frame.MTU > MaxMTU || mtu < least {
			continue
		}
		if smallest == 0 || mtu < smallest {
			smallest = mtu
		}
	}
	return cmp.Or(smallest, defaultMTU)
}

const defaultMTU = 1450

// Overhead gives the bytes that a tunnel of network adds to a container's IP
// packet on its way to vtep: outer IP, tunnel header and inner Ethernet.
// VXLAN: RFC 7348 §5; Geneve without options: RFC 8926 §3; GRE with key: RFC 2890.
func Overhead(network Network, vtep netip.Addr) int {
	const ethernet, ipv6, udp, vxlan, geneve, gre = 14, 40, 8, 8, 8, 8
	if network.Mode == ModeUnderlay || network.Mode == ModeRouted && network.Via != ViaVXLAN && !network.Encrypted {
		return 0
	}
	outer := outerHeader(vtep)
	if network.Encrypted { // the tunnel is one of IPv6 within WireGuard's
		outer = WireGuardOverhead(vtep) + ipv6
	}
	switch network.Tunnel {
	case "gre":
		return outer + gre + ethernet
	case "geneve":
		return outer + udp + geneve + ethernet
	default:
		return outer + udp + vxlan + ethernet
	}
}
