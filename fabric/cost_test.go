package fabric

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// TestOneChangeCostsTheSameOnManyHosts plans the move of one address on an encrypted routed
// network of 10 hosts and of 1,000: the change has that one route, by the WireGuard address
// of the host, and as much is made for it. What a walk of the hosts makes is an address of
// each.
func TestOneChangeCostsTheSameOnManyHosts(t *testing.T) {
	few, many := costOfMove(t, 10), costOfMove(t, 1000)
	if few != many || few == 0 {
		t.Errorf("the change makes %v objects on 10 hosts and %v on 1,000", few, many)
	}
}

// costOfMove counts the objects that a plan of the change makes.
func costOfMove(t *testing.T, hosts int) float64 {
	t.Helper()
	network := Network{ID: "n", Mode: ModeRouted, Via: ViaAuto, Encrypted: true, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}
	s := State{Hosts: map[string]Host{}, Networks: map[string]Network{"n": network}, Blocks: map[string][]Block{}, Endpoints: map[string]map[string]Endpoint{"n": {}}}
	name := func(n int) string { return fmt.Sprintf("h%04d", n) }
	on := func(n int, addr netip.Addr) Endpoint {
		return Endpoint{ID: addr.String(), Network: "n", Host: name(n), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 8)}}
	}
	flood := map[string]int{}
	for n := range hosts {
		key := base64.StdEncoding.EncodeToString(append(make([]byte, 30), byte(n>>8), byte(n)))
		s.Hosts[name(n)] = Host{Name: name(n), VTEP: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), MTU: 1500, Ends: Ends{WireGuard: WireGuard{Key: key, Port: 51822}}}
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
		s.Blocks["n"] = append(s.Blocks["n"], Block{block, name(n)})
		own := on(n, block.Addr().Next())
		s.Endpoints["n"][own.ID] = own
		flood[name(n)]++
	}
	SortBlocks(s.Blocks["n"])
	s.Frames = FramesOf(s.Hosts)
	local := on(0, netip.MustParseAddr("10.0.0.1"))
	moved := on(2, netip.MustParseAddr("10.0.1.7")) // in the block of the host after the first
	s.Endpoints["n"][moved.ID] = moved
	change := Change{
		Local: map[string]Endpoint{local.ID: local}, Before: map[string]Endpoint{moved.ID: on(1, moved.Addrs[0].Addr())},
		Flood: FloodTo(s, network, name(0), flood),
	}
	d := PlanDelta(s, network, name(0), change)
	to := s.Hosts[name(2)]
	if want := []Route{{netip.PrefixFrom(moved.Addrs[0].Addr(), 32), Way{to.VTEP, to.WireGuard.Addr()}}}; !slices.Equal(d.PutRoutes, want) || len(d.GoneRoutes) != 0 {
		t.Errorf("of %d hosts: put %v, gone %v", hosts, d.PutRoutes, d.GoneRoutes)
	}
	return testing.AllocsPerRun(100, func() { PlanDelta(s, network, name(0), change) })
}
