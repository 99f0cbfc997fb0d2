package ovs

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"

	"github.com/causeway-net/causeway/internal/vswitch"
)

func TestFlowsOfASegment(t *testing.T) {
	endpoint := func(id string, mac byte, addrs ...string) fabric.Endpoint {
		e := fabric.Endpoint{ID: id, MAC: fabric.MAC{2, 0, 0, 0, 0, mac}}
		for _, addr := range addrs {
			e.Addrs = append(e.Addrs, netip.MustParsePrefix(addr))
		}
		return e
	}
	vtep := netip.MustParseAddr("10.99.0.2")
	segment := fabric.Segment{
		Network: fabric.Network{ID: "foo", VNI: 0x800001},
		VTEP:    netip.MustParseAddr("10.99.0.1"),
		Local:   []fabric.Endpoint{endpoint("here", 1, "192.168.1.1/24", "fd01::1/64"), endpoint("not plugged", 3, "192.168.1.3/24")},
		Remote:  []fabric.Peer{{Endpoint: endpoint("there", 2, "192.168.1.2/24", "fd01::2/64"), VTEP: vtep}},
		Flood:   []netip.Addr{vtep},
	}
	want := newProgramme(segment, numbers{tunnel: 1, local: map[string]int{"here": 7}})
	flows := append(staticFlows(), want.flows()...)
	slices.SortFunc(flows, vswitch.CompareFlows)
	var got strings.Builder
	fmt.Fprint(&got, vswitch.Change{SetGroups: want.groups()}.Bundle())
	for _, f := range flows {
		fmt.Fprintln(&got, f)
	}
	text, err := os.ReadFile("testdata/flows.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-testdata +got)\n%s", diff)
	}
}

func TestFlowsOverIPv6(t *testing.T) {
	vtep := netip.MustParseAddr("fd99::2")
	over6 := programme{
		segment: fabric.Segment{Network: fabric.Network{ID: "foo", VNI: 1}, Flood: []netip.Addr{vtep}}, ports: numbers{tunnel: 1},
	}
	want := []vswitch.Flow{
		{Cookie: cookieOurs | 1, Table: 0, Priority: 100, Match: "tun_id=0x1,tun_ipv6_src=fd99::2,in_port=1", Actions: "set_field:0x1->reg0,set_field:0x1->reg1,goto_table:30"},
		{Cookie: cookieOurs | 1, Table: 50, Priority: 100, Match: "reg0=0x1,reg1=0", Actions: "set_field:0x1->tun_id,group:3388997633"},
		{Cookie: cookieOurs | 1, Table: 50, Priority: 100, Match: "reg0=0x1,reg1=0x1", Actions: "drop"},
	}
	if diff := cmp.Diff(want, over6.flows()); diff != "" {
		t.Error(diff)
	}
	groups := []vswitch.Group{{ID: 0xca000001, Buckets: ",bucket=bucket_id:0,actions=set_field:fd99::2->tun_ipv6_dst,output:1"}}
	if diff := cmp.Diff(groups, over6.groups()); diff != "" {
		t.Error(diff)
	}
}

// genProgramme draws that of one network as Plan would give it. Some endpoints share
// a MAC and an address, as one whose host died does with its successor.
func genProgramme(t *rapid.T) programme {
	segment := fabric.Segment{Network: fabric.Network{
		ID: "foo", VNI: rapid.Uint32Range(1, 1<<24-1).Draw(t, "VNI"),
		Encrypted: rapid.Bool().Draw(t, "encrypted"),
		Spoofing:  rapid.Bool().Draw(t, "spoofing"), Rate: 1e6 * uint64(rapid.IntRange(0, 1).Draw(t, "rate")),
	}}
	if rapid.Bool().Draw(t, "floating") {
		segment.Network.Allow = []netip.Addr{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("fd00::100")}
	}
	ports := numbers{tunnel: 1, local: map[string]int{}}
	vteps := map[netip.Addr]bool{}
	for n := range rapid.IntRange(0, 8).Draw(t, "endpoints") {
		last := byte(rapid.IntRange(1, 9).Draw(t, "address"))
		e := fabric.Endpoint{ID: fmt.Sprint("e", n), Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 24)}}
		if rapid.Bool().Draw(t, "IPv6") {
			e.Addrs = append(e.Addrs, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: last}), 64))
		}
		e.MAC = fabric.DeriveMAC("foo", e.Addrs[0].Addr())
		if host := rapid.IntRange(0, 4).Draw(t, "host"); host > 0 {
			vtep := netip.AddrFrom4([4]byte{10, 99, 0, byte(host)})
			segment.Remote = append(segment.Remote, fabric.Peer{Endpoint: e, VTEP: vtep})
			vteps[vtep] = true
			continue
		}
		segment.Local = append(segment.Local, e)
		if rapid.Bool().Draw(t, "plugged") {
			ports.local[e.ID] = n + 2
		}
	}
	for vtep := range vteps {
		segment.Flood = append(segment.Flood, vtep)
	}
	slices.SortFunc(segment.Flood, netip.Addr.Compare)
	return newProgramme(segment, ports)
}

func TestFlowInvariants(t *testing.T) {
	number := regexp.MustCompile(`(?:in_port=|output:)(\d+)`)
	floods := regexp.MustCompile(`group:|output:1$`) // 1 is the tunnel
	destination := regexp.MustCompile(`set_field:([\d.]+)->tun_dst`)
	rapid.Check(t, func(t *rapid.T) {
		p := genProgramme(t)
		segment, ports, flows := p.segment, p.ports, p.flows()
		if !slices.Equal(flows, p.flows()) {
			t.Fatal("two calls give two texts")
		}
		allowed := map[string]bool{fmt.Sprint(ports.tunnel): true}
		for _, port := range ports.local {
			allowed[fmt.Sprint(port)] = true
		}
		keys := map[vswitch.FlowKey]bool{}
		for _, f := range flows {
			if keys[f.Key()] {
				t.Fatalf("two flows have the key %s", f.Key())
			}
			keys[f.Key()] = true
			if f.Cookie != cookieOurs|uint64(segment.Network.VNI) {
				t.Fatalf("cookie %#x", f.Cookie)
			}
			for _, found := range number.FindAllStringSubmatch(f.String(), -1) {
				if !allowed[found[1]] {
					t.Fatalf("no endpoint here has port %s: %s", found[1], f)
				}
			}
			vni := fmt.Sprintf("%#x", segment.Network.VNI)
			mine := strings.Contains(f.Match, "reg0="+vni) || strings.Contains(f.Match, "tun_id="+vni) || strings.Contains(f.Match, "in_port=")
			if !mine {
				t.Fatalf("serves other networks too: %s", f)
			}
			fromTunnel := strings.Contains(f.Match, "reg1=0x1") || strings.Contains(f.Match, "tun_id")
			if fromTunnel && strings.Contains(f.Actions, "tun_dst") {
				t.Fatalf("goes from tunnel to tunnel: %s", f)
			}
			if flood := f.Table == tableFlood && !fromTunnel && (segment.Network.Encrypted || len(segment.Flood) > 0); flood != floods.MatchString(f.Actions) && f.Table != tableRemote {
				t.Fatalf("the one place to flood to other hosts from is not %s", f)
			}
		}
		var to []string
		for _, g := range p.groups() {
			for _, found := range destination.FindAllStringSubmatch(g.Buckets, -1) {
				to = append(to, found[1])
			}
		}
		if fmt.Sprint(to) != fmt.Sprint(segment.Flood) && (to != nil || !segment.Network.Encrypted) { // there the device floods
			t.Fatalf("floods to %v, want %v", to, segment.Flood)
		}
	})
}

// after gives the flows that a switch with have has after a change.
func after(c vswitch.Change, have []vswitch.Flow) map[vswitch.FlowKey]vswitch.Flow {
	table := map[vswitch.FlowKey]vswitch.Flow{}
	for _, f := range have {
		table[f.Key()] = f
	}
	for _, f := range c.Remove {
		delete(table, f.Key())
	}
	for _, f := range c.Add {
		table[f.Key()] = f
	}
	return table
}

func TestAChangeLeadsFromHaveToWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := genProgramme(t), genProgramme(t)
		two.segment.Network = one.segment.Network
		have, want := one.flows(), two.flows()
		full := vswitch.ChangeOf(have, want)
		for name, c := range map[string]vswitch.Change{"the change": full, "the difference": difference(one, two)} {
			table := after(c, have)
			if len(table) != len(want) {
				t.Fatalf("%s gives %d flows, want %d", name, len(table), len(want))
			}
			for _, f := range want {
				if table[f.Key()] != f {
					t.Fatalf("%s: %s became %s", name, f, table[f.Key()])
				}
			}
			if c.Size() != full.Size() {
				t.Fatalf("%s writes %d flows, want %d", name, c.Size(), full.Size())
			}
		}
		if again := difference(two, two); again.Size() != 0 {
			t.Fatalf("from itself to itself: %s", again.Bundle())
		}
	})
}

// A change of some of the peers, and of ports, leads to the flows of the whole.
func TestAChangeOfSomeLeadsToAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := genProgramme(t), genProgramme(t)
		two.segment.Network = one.segment.Network
		delta := fabric.Delta{Segment: two.segment, Put: slices.Collect(maps.Values(two.peers)), Gone: one.segment.Local}
		for _, peer := range one.peers {
			delta.Gone = append(delta.Gone, peer.Endpoint)
		}
		have, want := one.flows(), two.flows()
		partly := two
		partly.peers = one.peers
		table := after(changeOf(one, partly, delta), have)
		for _, f := range want {
			if table[f.Key()] != f {
				t.Fatalf("%s became %s", f, table[f.Key()])
			}
		}
		if len(table) != len(want) {
			t.Fatalf("it gives %d flows, want %d", len(table), len(want))
		}
		// A container is plugged: nothing else changed.
		plugged := partly
		plugged.ports.local = map[string]int{}
		for n, endpoint := range plugged.segment.Local {
			plugged.ports.local[endpoint.ID] = n + 100
		}
		table = after(changeOf(partly, plugged, fabric.Delta{}), want)
		for _, f := range plugged.flows() {
			if table[f.Key()] != f {
				t.Fatalf("plugged: %s became %s", f, table[f.Key()])
			}
		}
	})
}

// An endpoint whose record outlived its host has the same address as its
// successor; when it goes, the flows must lead to the successor.
func TestOfTwoFlowsOfOneKeyTheWantedOneIsWritten(t *testing.T) {
	peer := func(id, vtep string) fabric.Peer {
		addr := netip.MustParsePrefix("10.0.0.2/24")
		e := fabric.Endpoint{ID: id, MAC: fabric.DeriveMAC("foo", addr.Addr()), Addrs: []netip.Prefix{addr}}
		return fabric.Peer{Endpoint: e, VTEP: netip.MustParseAddr(vtep)}
	}
	network, ports := fabric.Network{ID: "foo", VNI: 1}, numbers{tunnel: 1}
	both := newProgramme(fabric.Segment{Network: network, Remote: []fabric.Peer{peer("a", "10.99.0.9"), peer("b", "10.99.0.1")}}, ports)
	one := newProgramme(fabric.Segment{Network: network, Remote: []fabric.Peer{peer("b", "10.99.0.1")}}, ports)
	// What the switch has after both were written, one after the other.
	have := slices.Collect(maps.Values(after(vswitch.Change{Add: both.flows()}, nil)))
	for name, c := range map[string]vswitch.Change{"the change": vswitch.ChangeOf(both.flows(), one.flows()), "the difference": difference(both, one)} {
		table := after(c, have)
		for _, f := range one.flows() {
			if table[f.Key()] != f {
				t.Errorf("%s leaves %s, want %s", name, table[f.Key()], f)
			}
		}
	}
}

// A change costs what changes, not what the network has.
func TestOneEndpointOfManyIsOneEndpointsFlows(t *testing.T) {
	build := func(endpoints int) programme {
		segment := fabric.Segment{Network: fabric.Network{ID: "foo", VNI: 1}, Flood: []netip.Addr{netip.MustParseAddr("10.99.0.1")}}
		for n := range endpoints {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			e := fabric.Endpoint{ID: fmt.Sprintf("%06d", n), MAC: fabric.DeriveMAC("foo", addr), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 16)}}
			segment.Remote = append(segment.Remote, fabric.Peer{Endpoint: e, VTEP: netip.MustParseAddr("10.99.0.1")})
		}
		return newProgramme(segment, numbers{tunnel: 1})
	}
	many, more := build(20000), build(20001)
	if c := difference(many, more); len(c.Add) != 2 || c.Size() != 2 {
		t.Errorf("one endpoint more: %s", c.Bundle())
	}
	allocated := testing.AllocsPerRun(5, func() { difference(many, more) })
	if allocated > 200 { // writing all flows out takes more than 100,000
		t.Errorf("one endpoint more took %.0f allocations", allocated)
	}
}

func TestGroupsStayWithinAMessage(t *testing.T) {
	var flood []netip.Addr
	for vtep, n := netip.MustParseAddr("fd99::1"), 0; n < 3000; vtep, n = vtep.Next(), n+1 {
		flood = append(flood, vtep)
	}
	groups := groupsOf(0xffffff, flood, 1)
	all := 0
	for _, g := range groups {
		buckets := strings.Count(g.Buckets, "bucket=")
		all += buckets
		if buckets > 800 || g.ID > 0xffffff00 {
			t.Errorf("group %#x has %d buckets", g.ID, buckets)
		}
	}
	if all != len(flood) {
		t.Errorf("%d buckets for %d VTEPs", all, len(flood))
	}
	have := map[uint32]string{}
	for _, g := range groups {
		have[g.ID] = g.Buckets
	}
	set, remove := regroup(have, 0xffffff, groupsOf(0xffffff, flood[:2999], 1))
	if len(set) != 1 || len(remove) != 0 {
		t.Errorf("a VTEP that goes sets %d groups and removes %d", len(set), len(remove))
	}
	if set, remove := regroup(have, 0xffffff, groupsOf(0xffffff, flood[:3], 1)); len(set) != 1 || len(remove) != len(groups)-1 {
		t.Errorf("few VTEPs set %d groups and remove %d", len(set), len(remove))
	}
}
