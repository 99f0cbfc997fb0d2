package fabric

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Via says how a routed network's packets get to another host.
type Via string

// The ways, as users write them in -o via=….
const (
	// ViaAuto is direct to a host on the same link, else through the VXLAN device.
	ViaAuto Via = "auto"
	// ViaDirect makes the other host itself the next hop.
	ViaDirect Via = "direct"
	// ViaVXLAN wraps all packets.
	ViaVXLAN Via = "vxlan"
)

// RoutedVNI is that of [RoutedDevice], SealedVNI that of [SealedDevice] (24 bits, RFC
// 7348 §5). No network of another mode may have them.
const (
	RoutedVNI = 1<<24 - 1
	SealedVNI = RoutedVNI - 1
)

// The VXLAN devices of all routed networks on a host.
const (
	RoutedDevice = "cw-routed"
	// SealedDevice is that of the encrypted ones: its ends are the hosts' WireGuard
	// addresses.
	SealedDevice = "cw-routed-wg"
)

// RouteProtocol is the number that our routes bear (rtm_protocol of rtnetlink(7)): `ip
// route show proto 67` lists them. It is in none of iproute2's and FRR's lists.
const RouteProtocol = 67

// Block is a part of a pool whose addresses one host gives out.
type Block struct {
	Prefix netip.Prefix
	Host   string
}

// Route says where packets for a part of a routed network go.
type Route struct {
	Prefix netip.Prefix
	Way
}

// Way is what leads to the host that has a prefix; the zero Way is this host: the address
// of a container here that lies in another host's block.
type Way struct {
	VTEP netip.Addr
	// End is the host's WireGuard address, where an encrypted network's tunnel to it ends;
	// the zero Addr for other networks. It changes with the host's key, and VTEP does not.
	End netip.Addr
}

func wayTo(network Network, host Host) Way {
	way := Way{VTEP: host.VTEP}
	if network.Encrypted {
		way.End = vtepOn(network, host)
	}
	return way
}

// routesOf gives the routes of a network, sorted: one for each block of another
// host, and one for each endpoint's address that its host has no block for. Where
// the record of a local endpoint's address elsewhere lingers, the local one wins.
func routesOf(s State, network Network, self string) []Route {
	if network.Mode != ModeRouted {
		return nil
	}
	routes := make(map[netip.Prefix]Way)
	for _, block := range s.Blocks[network.ID] {
		host, known := s.Hosts[block.Host]
		if known && block.Host != self && tunnelled(network, s.Hosts[self], host) && inSubnets(network, block.Prefix) {
			way := wayTo(network, host)
			for _, part := range partsOf(network, block.Prefix) {
				routes[part] = way
			}
		}
	}
	endpoints := s.Endpoints[network.ID]
	for _, id := range slices.Sorted(maps.Keys(endpoints)) {
		for _, route := range endpointRoutes(s, network, self, endpoints[id]) {
			if have, taken := routes[route.Prefix]; !taken || have != (Way{}) {
				routes[route.Prefix] = route.Way
			}
		}
	}
	return sortedRoutes(routes)
}

// partsOf are the prefixes that lead to a block: itself, or where it is a whole subnet
// its halves, for the kernel has a route to the subnet of its own, to the bridge.
func partsOf(network Network, block netip.Prefix) []netip.Prefix {
	whole := slices.ContainsFunc(network.Subnets, func(s Subnet) bool { return s.Prefix.Masked() == block })
	if !whole || block.IsSingleIP() {
		return []netip.Prefix{block}
	}
	return Halves(block, block.Addr())
}

// endpointRoutes are those of an endpoint's addresses that lie outside of its host's
// blocks.
func endpointRoutes(s State, network Network, self string, endpoint Endpoint) (routes []Route) {
	host, known := s.Hosts[endpoint.Host]
	here := endpoint.Host == self
	if endpoint.ID == "" || !here && (!known || !tunnelled(network, s.Hosts[self], host)) {
		return nil
	}
	for _, prefix := range endpoint.Addrs {
		addr := prefix.Addr().Unmap()
		owner := blockOwner(s.Blocks[network.ID], addr)
		whole := netip.PrefixFrom(addr, addr.BitLen())
		switch {
		case owner == endpoint.Host || !inSubnets(network, whole):
		case !here:
			routes = append(routes, Route{Prefix: whole, Way: wayTo(network, host)})
		case owner != "":
			routes = append(routes, Route{Prefix: whole})
		}
	}
	return routes
}

// blockOwner gives the host whose block addr is in; empty for none. Blocks are
// sorted by prefix and do not overlap.
func blockOwner(blocks []Block, addr netip.Addr) string {
	i, found := slices.BinarySearchFunc(blocks, addr, func(b Block, addr netip.Addr) int { return b.Prefix.Addr().Compare(addr) })
	if !found {
		i--
	}
	if i < 0 || !blocks[i].Prefix.Contains(addr) {
		return ""
	}
	return blocks[i].Host
}

// SortBlocks puts blocks into the order that [State] has them in.
func SortBlocks(blocks []Block) {
	slices.SortFunc(blocks, func(a, b Block) int { return comparePrefixes(a.Prefix, b.Prefix) })
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func sortedRoutes(routes map[netip.Prefix]Way) []Route {
	var list []Route
	for _, prefix := range slices.SortedFunc(maps.Keys(routes), comparePrefixes) {
		list = append(list, Route{Prefix: prefix, Way: routes[prefix]})
	}
	return list
}

// inSubnets says whether all of prefix is in one of the network's subnets.
func inSubnets(network Network, prefix netip.Prefix) bool {
	return slices.ContainsFunc(network.Subnets, func(s Subnet) bool {
		return prefix.Bits() >= s.Prefix.Bits() && s.Prefix.Contains(prefix.Addr())
	})
}

// Halves are the two halves of prefix: routes to them win over the one to the whole.
// The one with addr comes last, for the kernel takes no IPv6 route through a next hop
// that another route with a next hop leads to. A prefix of one address has none.
func Halves(prefix netip.Prefix, addr netip.Addr) []netip.Prefix {
	if prefix.IsSingleIP() {
		return nil
	}
	low := netip.PrefixFrom(prefix.Masked().Addr(), prefix.Bits()+1)
	bytes := low.Addr().AsSlice()
	bytes[prefix.Bits()/8] |= 0x80 >> (prefix.Bits() % 8)
	start, _ := netip.AddrFromSlice(bytes)
	high := netip.PrefixFrom(start, low.Bits())
	if low.Contains(addr) {
		return []netip.Prefix{high, low}
	}
	return []netip.Prefix{low, high}
}
