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
	want := programme{segment: segment, ports: numbers{tunnel: 1, local: map[string]int{"here": 7}}}
	flows := append(staticFlows(), want.flows()...)
	slices.SortFunc(flows, compareFlows)
	var got strings.Builder
	fmt.Fprint(&got, change{setGroups: want.groups()}.bundle())
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
	want := []flow{
		{cookieOurs | 1, 0, 100, "tun_id=0x1,tun_ipv6_src=fd99::2,in_port=1", "set_field:0x1->reg0,set_field:0x1->reg1,goto_table:30"},
		{cookieOurs | 1, 50, 100, "reg0=0x1,reg1=0", "set_field:0x1->tun_id,group:3388997633"},
		{cookieOurs | 1, 50, 100, "reg0=0x1,reg1=0x1", "drop"},
	}
	if diff := cmp.Diff(want, over6.flows(), cmp.AllowUnexported(flow{})); diff != "" {
		t.Error(diff)
	}
	groups := []group{{0xca000001, ",bucket=bucket_id:0,actions=set_field:fd99::2->tun_ipv6_dst,output:1"}}
	if diff := cmp.Diff(groups, over6.groups(), cmp.AllowUnexported(group{})); diff != "" {
		t.Error(diff)
	}
}

// genProgramme draws that of one network as Plan would give it. Some endpoints share
// a MAC and an address, as one whose host died does with its successor.
func genProgramme(t *rapid.T) programme {
	segment := fabric.Segment{Network: fabric.Network{ID: "foo", VNI: rapid.Uint32Range(1, 1<<24-1).Draw(t, "VNI")}}
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
	return programme{segment: segment, ports: ports}
}

func TestFlowInvariants(t *testing.T) {
	number := regexp.MustCompile(`(?:in_port=|output:)(\d+)`)
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
		keys := map[flowKey]bool{}
		for _, f := range flows {
			if keys[f.key()] {
				t.Fatalf("two flows have the key %s", f.key())
			}
			keys[f.key()] = true
			if f.cookie != cookieOurs|uint64(segment.Network.VNI) {
				t.Fatalf("cookie %#x", f.cookie)
			}
			for _, found := range number.FindAllStringSubmatch(f.String(), -1) {
				if !allowed[found[1]] {
					t.Fatalf("no endpoint here has port %s: %s", found[1], f)
				}
			}
			vni := fmt.Sprintf("%#x", segment.Network.VNI)
			mine := strings.Contains(f.match, "reg0="+vni) || strings.Contains(f.match, "tun_id="+vni) || strings.Contains(f.match, "in_port=")
			if !mine {
				t.Fatalf("serves other networks too: %s", f)
			}
			fromTunnel := strings.Contains(f.match, "reg1=0x1") || strings.Contains(f.match, "tun_id")
			if fromTunnel && strings.Contains(f.actions, "tun_dst") {
				t.Fatalf("goes from tunnel to tunnel: %s", f)
			}
			if flood := f.table == tableFlood && !fromTunnel && len(segment.Flood) > 0; flood != strings.Contains(f.actions, "group:") {
				t.Fatalf("the one place to flood to other hosts from is not %s", f)
			}
		}
		var to []string
		for _, g := range p.groups() {
			for _, found := range destination.FindAllStringSubmatch(g.buckets, -1) {
				to = append(to, found[1])
			}
		}
		if fmt.Sprint(to) != fmt.Sprint(segment.Flood) {
			t.Fatalf("floods to %v, want %v", to, segment.Flood)
		}
	})
}

// apply gives the flows that a switch with have has after a change.
func (c change) apply(have []flow) map[flowKey]flow {
	table := map[flowKey]flow{}
	for _, f := range have {
		table[f.key()] = f
	}
	for _, f := range c.remove {
		delete(table, f.key())
	}
	for _, f := range c.add {
		table[f.key()] = f
	}
	return table
}

func TestAChangeLeadsFromHaveToWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := genProgramme(t), genProgramme(t)
		two.segment.Network = one.segment.Network
		have, want := one.flows(), two.flows()
		full := changeOf(have, want)
		for name, c := range map[string]change{"the change": full, "the difference": difference(one, two)} {
			table := c.apply(have)
			if len(table) != len(want) {
				t.Fatalf("%s gives %d flows, want %d", name, len(table), len(want))
			}
			for _, f := range want {
				if table[f.key()] != f {
					t.Fatalf("%s: %s became %s", name, f, table[f.key()])
				}
			}
			if c.size() != full.size() {
				t.Fatalf("%s writes %d flows, want %d", name, c.size(), full.size())
			}
		}
		if again := difference(two, two); again.size() != 0 {
			t.Fatalf("from itself to itself: %s", again.bundle())
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
	both := programme{segment: fabric.Segment{Network: network, Remote: []fabric.Peer{peer("a", "10.99.0.9"), peer("b", "10.99.0.1")}}, ports: ports}
	one := programme{segment: fabric.Segment{Network: network, Remote: []fabric.Peer{peer("b", "10.99.0.1")}}, ports: ports}
	// What the switch has after both were written, one after the other.
	have := slices.Collect(maps.Values(change{add: both.flows()}.apply(nil)))
	for name, c := range map[string]change{"the change": changeOf(both.flows(), one.flows()), "the difference": difference(both, one)} {
		table := c.apply(have)
		for _, f := range one.flows() {
			if table[f.key()] != f {
				t.Errorf("%s leaves %s, want %s", name, table[f.key()], f)
			}
		}
	}
}

// A change costs what changes, not what the network has.
func TestOneEndpointOfManyIsOneEndpointsFlows(t *testing.T) {
	build := func(endpoints int) programme {
		p := programme{segment: fabric.Segment{Network: fabric.Network{ID: "foo", VNI: 1}}, ports: numbers{tunnel: 1}}
		for n := range endpoints {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			e := fabric.Endpoint{ID: fmt.Sprintf("%06d", n), MAC: fabric.DeriveMAC("foo", addr), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 16)}}
			p.segment.Remote = append(p.segment.Remote, fabric.Peer{Endpoint: e, VTEP: netip.MustParseAddr("10.99.0.1")})
		}
		p.segment.Flood = []netip.Addr{netip.MustParseAddr("10.99.0.1")}
		return p
	}
	many, more := build(20000), build(20001)
	if c := difference(many, more); len(c.add) != 2 || c.size() != 2 {
		t.Errorf("one endpoint more: %s", c.bundle())
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
		buckets := strings.Count(g.buckets, "bucket=")
		all += buckets
		if buckets > 800 || g.id > 0xffffff00 {
			t.Errorf("group %#x has %d buckets", g.id, buckets)
		}
	}
	if all != len(flood) {
		t.Errorf("%d buckets for %d VTEPs", all, len(flood))
	}
	have := map[uint32]string{}
	for _, g := range groups {
		have[g.id] = g.buckets
	}
	set, remove := regroup(have, 0xffffff, groupsOf(0xffffff, flood[:2999], 1))
	if len(set) != 1 || len(remove) != 0 {
		t.Errorf("a VTEP that goes sets %d groups and removes %d", len(set), len(remove))
	}
	if set, remove := regroup(have, 0xffffff, groupsOf(0xffffff, flood[:3], 1)); len(set) != 1 || len(remove) != len(groups)-1 {
		t.Errorf("few VTEPs set %d groups and remove %d", len(set), len(remove))
	}
}

func TestParseFlow(t *testing.T) {
	text := `OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0xca05e3a100000001, table=30, send_flow_rem priority=99,reg0=0x1 actions=drop
 priority=0 actions=NORMAL
 cookie=0x1, idle_timeout=10, in_port=3 actions=output:4
`
	got, err := parseFlows(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []flow{
		{0xca05e3a100000001, 30, 99, "reg0=0x1", "drop"},
		{0, 0, 0, "", "NORMAL"},
		{1, 0, 32768, "in_port=3", "output:4"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(flow{})); diff != "" {
		t.Error(diff)
	}
	if _, err := parseFlows(" table=x actions=drop"); err == nil {
		t.Error("a table that is no number was taken")
	}
}
