package ovs

import (
	"fmt"
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
	flows := append(staticFlows(), flowsOf(segment, numbers{tunnel: 1, local: map[string]int{"here": 7}})...)
	slices.SortFunc(flows, compareFlows)
	var got strings.Builder
	for _, f := range flows {
		fmt.Fprintln(&got, f)
	}
	want, err := os.ReadFile("testdata/flows.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-testdata +got)\n%s", diff)
	}
}

func TestFlowsOverIPv6(t *testing.T) {
	vtep := netip.MustParseAddr("fd99::2")
	flows := flowsOf(fabric.Segment{Network: fabric.Network{ID: "foo", VNI: 1}, Flood: []netip.Addr{vtep}}, numbers{tunnel: 1})
	want := []flow{
		{cookieOurs | 1, 0, 100, "tun_id=0x1,tun_ipv6_src=fd99::2,in_port=1", "set_field:0x1->reg0,set_field:0x1->reg1,goto_table:30"},
		{cookieOurs | 1, 50, 100, "reg0=0x1,reg1=0", "set_field:0x1->tun_id,set_field:fd99::2->tun_ipv6_dst,output:1"},
		{cookieOurs | 1, 50, 100, "reg0=0x1,reg1=0x1", "drop"},
	}
	if diff := cmp.Diff(want, flows, cmp.AllowUnexported(flow{})); diff != "" {
		t.Error(diff)
	}
}

// genSegment draws the segment of one network as Plan would give it.
func genSegment(t *rapid.T) (fabric.Segment, numbers) {
	segment := fabric.Segment{Network: fabric.Network{ID: "foo", VNI: rapid.Uint32Range(1, 1<<24-1).Draw(t, "VNI")}}
	ports := numbers{tunnel: 1, local: map[string]int{}}
	vteps := map[netip.Addr]bool{}
	for n := range rapid.IntRange(0, 8).Draw(t, "endpoints") {
		e := fabric.Endpoint{ID: fmt.Sprint("e", n), Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), 24)}}
		if rapid.Bool().Draw(t, "IPv6") {
			e.Addrs = append(e.Addrs, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n + 1)}), 64))
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
	return segment, ports
}

func TestFlowsKeepTheirPromises(t *testing.T) {
	number := regexp.MustCompile(`(?:in_port=|output:)(\d+)`)
	destination := regexp.MustCompile(`set_field:([\d.]+)->tun_dst`)
	rapid.Check(t, func(t *rapid.T) {
		segment, ports := genSegment(t)
		flows := flowsOf(segment, ports)
		if !slices.Equal(flows, flowsOf(segment, ports)) {
			t.Fatal("two calls give two texts")
		}
		allowed := map[string]bool{fmt.Sprint(ports.tunnel): true}
		for _, port := range ports.local {
			allowed[fmt.Sprint(port)] = true
		}
		keys := map[string]bool{}
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
			if f.table == tableFlood && !fromTunnel {
				var to []string
				for _, found := range destination.FindAllStringSubmatch(f.actions, -1) {
					to = append(to, found[1])
				}
				if fmt.Sprint(to) != fmt.Sprint(segment.Flood) {
					t.Fatalf("floods to %v, want %v", to, segment.Flood)
				}
			}
		}
	})
}

func TestAChangeLeadsFromHaveToWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, itsPorts := genSegment(t)
		two, otherPorts := genSegment(t)
		two.Network = one.Network
		have, want := flowsOf(one, itsPorts), flowsOf(two, otherPorts)
		c := changeOf(have, want)
		table := map[string]flow{}
		for _, f := range have {
			table[f.key()] = f
		}
		for _, f := range c.remove {
			delete(table, f.key())
		}
		for _, f := range c.add {
			table[f.key()] = f
		}
		if len(table) != len(want) {
			t.Fatalf("%d flows, want %d", len(table), len(want))
		}
		for _, f := range want {
			if table[f.key()] != f {
				t.Fatalf("%s became %s", f, table[f.key()])
			}
		}
		if again := changeOf(want, want); again.size() != 0 {
			t.Fatalf("from itself to itself: %s", again.bundle())
		}
	})
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
