package fabric

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// genState draws a cluster; family turns a small number into an address, so that
// one test serves both.
func genState(family func(net, n int) netip.Addr) *rapid.Generator[State] {
	return rapid.Custom(func(t *rapid.T) State {
		s := State{
			Hosts: map[string]Host{}, Networks: map[string]Network{},
			Endpoints: map[string]map[string]Endpoint{}, Attached: map[string]bool{}, Blocks: map[string][]Block{},
		}
		for n := range rapid.IntRange(1, 5).Draw(t, "hosts") {
			host := Host{Name: fmt.Sprint("h", n), MTU: rapid.SampledFrom([]int{0, 1280, 1500, 9000, -5, 1, 999_999_999}).Draw(t, "mtu")}
			switch kind := rapid.IntRange(0, 3).Draw(t, "VTEP"); {
			case n == 0 || kind > 1: // this host always has one
				host.VTEP = family(0, n+1)
			case kind == 1 && family(0, 0).Is4(): // no tunnel leads there
				host.VTEP = v6(0, n+1)
			case kind == 1:
				host.VTEP = v4(0, n+1)
			}
			s.Hosts[host.Name] = host
		}
		modes := rapid.SampledFrom([]Mode{ModeVXLAN, ModeOVS, ModeUnderlay, ModeRouted})
		for n := range rapid.IntRange(0, 4).Draw(t, "networks") {
			id := fmt.Sprint("n", n)
			subnet := netip.PrefixFrom(family(n+1, 0), family(0, 0).BitLen()-8)
			s.Networks[id] = Network{ID: id, Mode: modes.Draw(t, "mode"), Subnets: []Subnet{{Prefix: subnet}}}
			if s.Networks[id].Mode == ModeRouted { // blocks of two addresses
				for b := range rapid.IntRange(0, 6).Draw(t, "blocks") {
					block := netip.PrefixFrom(family(n+1, 2*b), family(0, 0).BitLen()-1)
					s.Blocks[id] = append(s.Blocks[id], Block{block, fmt.Sprint("h", rapid.IntRange(0, 6).Draw(t, "of"))})
				}
			}
			s.Attached[id] = rapid.Bool().Draw(t, "attached")
			s.Endpoints[id] = map[string]Endpoint{}
			for e := range rapid.IntRange(0, 6).Draw(t, "endpoints") {
				endpoint := Endpoint{
					ID: fmt.Sprint("e", n, e), Network: id,
					// h5 and h6 are hosts that nobody has heard of.
					Host:  fmt.Sprint("h", rapid.IntRange(0, 6).Draw(t, "on")),
					Addrs: []netip.Prefix{netip.PrefixFrom(family(n+1, e+2), 24)},
				}
				endpoint.MAC = DeriveMAC(id, endpoint.Addrs[0].Addr())
				s.Endpoints[id][endpoint.ID] = endpoint
			}
		}
		return s
	})
}

func v4(net, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(net), byte(n)}) }

func v6(net, n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(net), 15: byte(n)})
}

func eachFamily(t *testing.T, check func(*rapid.T, State)) {
	for name, family := range map[string]func(int, int) netip.Addr{"IPv4": v4, "IPv6": v6} {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) { check(t, genState(family).Draw(t, "state")) }))
	}
}

func TestPlanIsDeterministicAndSorted(t *testing.T) {
	eachFamily(t, func(t *rapid.T, s State) {
		first := Plan(s, "h0")
		if diff := cmp.Diff(first, Plan(s, "h0"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Fatal(diff)
		}
		if !slices.IsSortedFunc(first, func(a, b Segment) int { return strings.Compare(a.Network.ID, b.Network.ID) }) {
			t.Fatal("segments are not sorted by network")
		}
		for _, segment := range first {
			if !slices.IsSortedFunc(segment.Flood, netip.Addr.Compare) || len(slices.Compact(slices.Clone(segment.Flood))) != len(segment.Flood) {
				t.Fatalf("flood list %v", segment.Flood)
			}
		}
	})
}

func TestPlanKeepsNetworksApart(t *testing.T) {
	eachFamily(t, func(t *rapid.T, s State) {
		for _, segment := range Plan(s, "h0") {
			for _, local := range segment.Local {
				if local.Network != segment.Network.ID || local.Host != "h0" {
					t.Fatalf("segment %s has the local endpoint %+v", segment.Network.ID, local)
				}
			}
			for _, peer := range segment.Remote {
				if peer.Network != segment.Network.ID || peer.Host == "h0" || peer.VTEP != s.Hosts[peer.Host].VTEP {
					t.Fatalf("segment %s has the peer %+v", segment.Network.ID, peer)
				}
			}
		}
	})
}

func TestPlanFloodsWhereEndpointsAre(t *testing.T) {
	eachFamily(t, func(t *rapid.T, s State) {
		for _, segment := range Plan(s, "h0") {
			want := map[netip.Addr]bool{}
			for _, endpoint := range s.Endpoints[segment.Network.ID] {
				if vtep := s.Hosts[endpoint.Host].VTEP; endpoint.Host != "h0" && vtep.IsValid() && vtep.Is4() == s.Hosts["h0"].VTEP.Is4() {
					want[vtep] = true
				}
			}
			if len(want) != len(segment.Flood) {
				t.Fatalf("segment %s floods to %v, endpoints are at %v", segment.Network.ID, segment.Flood, want)
			}
			for _, vtep := range segment.Flood {
				if !want[vtep] {
					t.Fatalf("segment %s floods to %s, where no endpoint is", segment.Network.ID, vtep)
				}
			}
		}
	})
}

func TestPlanHasWhatIsUsedHere(t *testing.T) {
	eachFamily(t, func(t *rapid.T, s State) {
		planned := map[string]bool{}
		for _, segment := range Plan(s, "h0") {
			planned[segment.Network.ID] = true
		}
		for id, network := range s.Networks {
			used := network.Mode == ModeUnderlay && s.Attached[id]
			for _, endpoint := range s.Endpoints[id] {
				used = used || endpoint.Host == "h0"
			}
			if used != planned[id] {
				t.Fatalf("network %s: used here %v, planned %v", id, used, planned[id])
			}
		}
	})
}

func TestMTU(t *testing.T) {
	hosts := map[string]Host{
		"big":   {VTEP: v4(0, 1), MTU: 9000},
		"small": {VTEP: v4(0, 2), MTU: 1500},
		"mute":  {VTEP: v4(0, 3)},
	}
	absurd, low := maps.Clone(hosts), maps.Clone(hosts)
	low["low"] = Host{VTEP: v4(0, 4), MTU: 1200}
	for n, mtu := range []int{1, -5, 117, 999_999_999} {
		absurd[fmt.Sprint("absurd", n)] = Host{VTEP: v4(0, n+4), MTU: mtu}
	}
	six := map[string]Host{"a": {VTEP: v6(0, 1), MTU: 1500}}
	for name, test := range map[string]struct {
		hosts   map[string]Host
		network Network
		want    int
	}{
		"vxlan takes 50":                 {hosts, Network{Mode: ModeVXLAN}, 1450},
		"70 over IPv6":                   {six, Network{Mode: ModeVXLAN}, 1430},
		"geneve takes 50":                {hosts, Network{Mode: ModeOVS, Tunnel: "geneve"}, 1450},
		"gre with a key takes 42":        {hosts, Network{Mode: ModeOVS, Tunnel: "gre"}, 1458},
		"underlay takes nothing":         {hosts, Network{Mode: ModeUnderlay}, 1500},
		"absurd MTUs are ignored":        {absurd, Network{Mode: ModeVXLAN}, 1450},
		"IPv6 needs 1280":                {low, Network{Mode: ModeVXLAN, IPv6: true}, 1450},
		"IPv4 needs 68":                  {low, Network{Mode: ModeVXLAN}, 1150},
		"the user's own":                 {hosts, Network{Mode: ModeVXLAN, MTU: 1400}, 1400},
		"no host has told of its device": {nil, Network{Mode: ModeVXLAN}, 1450},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mtuOf(FramesOf(test.hosts), test.network); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
