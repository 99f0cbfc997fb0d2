package fabric

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// lookUp is what a kernel with the routes does: the longest prefix wins.
func lookUp(routes []Route, addr netip.Addr) (found Route) {
	for _, route := range routes {
		if route.Prefix.Contains(addr) && (!found.Prefix.IsValid() || route.Prefix.Bits() > found.Prefix.Bits()) {
			found = route
		}
	}
	return found
}

// TestRoutesLeadToEachEndpoint by the longest prefix: those of other hosts to their
// host's VTEP, those of this host to no other's.
func TestRoutesLeadToEachEndpoint(t *testing.T) {
	eachFamily(t, func(t *rapid.T, s State) {
		for _, segment := range Plan(s, "h0") {
			if segment.Network.Mode != ModeRouted {
				if segment.Routes != nil {
					t.Fatalf("a network of mode %s has routes", segment.Network.Mode)
				}
				continue
			}
			for _, endpoint := range segment.Local {
				if route := lookUp(segment.Routes, endpoint.Addrs[0].Addr()); route.VTEP.IsValid() {
					t.Fatalf("%s is here, and routed to %+v", endpoint.Addrs[0], route)
				}
			}
			for _, peer := range segment.Remote {
				if route := lookUp(segment.Routes, peer.Addrs[0].Addr()); route.VTEP != peer.VTEP {
					t.Fatalf("%s is at %s, and routed to %+v", peer.Addrs[0], peer.VTEP, route)
				}
			}
			if most := 2*len(s.Blocks[segment.Network.ID]) + len(s.Endpoints[segment.Network.ID]); len(segment.Routes) > most {
				t.Fatalf("%d routes for %d blocks and endpoints", len(segment.Routes), most)
			}
		}
	})
}

// TestRoutesGrowWithHosts has 100 hosts with 100 containers each, all in their blocks,
// and one that borrowed an address.
func TestRoutesGrowWithHosts(t *testing.T) {
	const hosts, containers = 100, 100
	s := State{
		Hosts: map[string]Host{}, Endpoints: map[string]map[string]Endpoint{"n": {}}, Blocks: map[string][]Block{},
		Networks: map[string]Network{"n": {ID: "n", Mode: ModeRouted, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}},
	}
	put := func(host int, addr netip.Addr) {
		id := addr.String()
		s.Endpoints["n"][id] = Endpoint{ID: id, Network: "n", Host: fmt.Sprint("h", host), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 8)}}
	}
	for host := range hosts {
		name := fmt.Sprint("h", host)
		s.Hosts[name] = Host{Name: name, VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(host)})}
		for container := range containers {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(host), byte(container)})
			put(host, addr)
			if block, _ := addr.Prefix(26); block.Addr() == addr {
				s.Blocks["n"] = append(s.Blocks["n"], Block{block, name})
			}
		}
	}
	SortBlocks(s.Blocks["n"])
	if got := len(Plan(s, "h0")[0].Routes); got != 2*(hosts-1) {
		t.Errorf("%d routes to %d hosts with two blocks each", got, hosts-1)
	}
	borrowed := netip.MustParseAddr("10.0.5.120") // of h5's block
	put(0, borrowed)
	put(7, borrowed.Next())
	routes := Plan(s, "h0")[0].Routes
	for addr, want := range map[netip.Addr]netip.Addr{borrowed: {}, borrowed.Next(): s.Hosts["h7"].VTEP} {
		if !slices.Contains(routes, Route{netip.PrefixFrom(addr, 32), Way{VTEP: want}}) {
			t.Errorf("no route of %s's own to %q", addr, want)
		}
	}
}

// TestBlockOfWholeSubnet: the kernel's own route to the subnet leads to the bridge.
func TestBlockOfWholeSubnet(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	s := State{
		Hosts:     map[string]Host{"h0": {Name: "h0", VTEP: addr("192.0.2.1")}, "h1": {Name: "h1", VTEP: addr("192.0.2.2")}},
		Networks:  map[string]Network{"n": {ID: "n", Mode: ModeRouted, Subnets: []Subnet{{Prefix: prefix("10.0.0.0/26")}}}},
		Endpoints: map[string]map[string]Endpoint{"n": {"a": {ID: "a", Network: "n", Host: "h0", Addrs: []netip.Prefix{prefix("10.0.0.2/26")}}}},
		Blocks:    map[string][]Block{"n": {{prefix("10.0.0.0/26"), "h1"}}},
	}
	there := Way{VTEP: addr("192.0.2.2")}
	want := []Route{{prefix("10.0.0.0/27"), there}, {prefix("10.0.0.2/32"), Way{}}, {prefix("10.0.0.32/27"), there}}
	if got := Plan(s, "h0")[0].Routes; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHalves(t *testing.T) {
	for _, test := range []struct{ whole, gateway, first, second string }{
		{"10.1.0.0/24", "10.1.0.1", "10.1.0.128/25", "10.1.0.0/25"},
		{"10.1.0.0/24", "10.1.0.254", "10.1.0.0/25", "10.1.0.128/25"},
		{"10.0.0.0/15", "10.1.0.1", "10.0.0.0/16", "10.1.0.0/16"},
		{"192.0.2.4/31", "192.0.2.5", "192.0.2.4/32", "192.0.2.5/32"},
		{"fd00:1::/64", "fd00:1::1", "fd00:1:0:0:8000::/65", "fd00:1::/65"},
		{"fd00::/8", "fd80::1", "fd00::/9", "fd80::/9"},
	} {
		got := fmt.Sprint(Halves(netip.MustParsePrefix(test.whole), netip.MustParseAddr(test.gateway)))
		if want := fmt.Sprintf("[%s %s]", test.first, test.second); got != want {
			t.Errorf("%s with the gateway %s: %s, want %s", test.whole, test.gateway, got, want)
		}
	}
	if got := Halves(netip.MustParsePrefix("192.0.2.4/32"), netip.Addr{}); got != nil {
		t.Errorf("one address has the halves %v", got)
	}
}
