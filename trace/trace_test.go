package trace

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/causeway-net/causeway/fabric"
)

func hops(kinds ...Kind) []Hop {
	var way []Hop
	for _, kind := range kinds {
		way = append(way, Hop{Host: "h1", Kind: kind, Name: "a", Watched: true})
	}
	kinds = slices.Clone(kinds)
	slices.Reverse(kinds)
	for _, kind := range kinds {
		way = append(way, Hop{Host: "h2", Kind: kind, Name: "b", Watched: true})
	}
	return way
}

// A packet is lost after each of the sixteen passages in turn, and that is what is named.
func TestVerdictNamesTheHop(t *testing.T) {
	for _, test := range []struct {
		passed int
		want   string
	}{
		{0, "does not leave container a on host h1"},
		{1, "request passed container a on host h1 and did not come to the bridge's port a on host h1"},
		{2, "request passed the bridge's port a on host h1 and did not come to the tunnel a on host h1: the bridge"},
		{3, "request passed the tunnel a on host h1 and did not come to the NIC a of host h1: host h1 has no route"},
		{4, "request passed the NIC a of host h1 and did not come to the NIC b of host h2: it was sent"},
		{5, "request passed the NIC b of host h2 and did not come to the tunnel b on host h2: a packet filter of host h2"},
		{6, "request passed the tunnel b on host h2 and did not come to the bridge's port b"},
		{7, "request passed the bridge's port b on host h2 and did not come to container b"},
		{8, "came to container b on host h2, which does not answer"},
		{9, "answer passed container b on host h2 and did not come to the bridge's port b"},
		{11, "answer passed the tunnel b on host h2 and did not come to the NIC b of host h2: host h2 has no route"},
		{13, "answer passed the NIC a of host h1 and did not come to the tunnel a on host h1: a packet filter of host h1"},
		{16, "the container's own packet filter drops it"},
	} {
		way := hops(Container, Port, Tunnel, NIC)
		for i := range test.passed {
			if i < len(way) {
				way[i].Request = true
			} else {
				way[2*len(way)-1-i].Answer = true
			}
		}
		if got := verdict(way, true); !strings.Contains(got, test.want) {
			t.Errorf("after %d: %s", test.passed, got)
		}
	}
	near := hops(Container, Port, Tunnel, NIC)[:4]
	for i := range near {
		near[i].Request = true
	}
	if got := verdict(near, false); !strings.Contains(got, "left by the NIC a of host h1, and no answer came there") {
		t.Errorf("one host alone: %s", got)
	}
}

// The last hop that the request came to names the cause in the terms of the mode.
func TestVerdictOfEachMode(t *testing.T) {
	routed, encrypted := []Kind{Container, Port, NIC}, []Kind{Container, Port, Tunnel, WireGuard}
	for _, test := range []struct {
		kinds  []Kind
		passed int
		want   string
	}{
		{routed, 2, "did not come to the NIC a of host h1: host h1 has no route, FDB entry or flow"},
		{routed, 3, "did not come to the NIC b of host h2: it was sent to another address"},
		{routed, 4, "did not come to the bridge's port b on host h2: host h2 has no route, FDB entry or flow"},
		{encrypted, 3, "did not come to the WireGuard device a on host h1: host h1 has no route to the other VTEP"},
		{encrypted, 4, "did not come to the WireGuard device b on host h2: a host does not know the other's key"},
		{encrypted, 5, "did not come to the tunnel b on host h2: a packet filter of host h2"},
	} {
		way := hops(test.kinds...)
		for i := range test.passed {
			way[i].Request = true
		}
		if got := verdict(way, true); !strings.Contains(got, test.want) {
			t.Errorf("%v after %d: %s", test.kinds, test.passed, got)
		}
	}
}

func TestBehind(t *testing.T) {
	one, two := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	routes := []fabric.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/26"), Way: fabric.Way{VTEP: one}}, {Prefix: netip.MustParsePrefix("10.1.0.7/32"), Way: fabric.Way{VTEP: two}}}
	for addr, want := range map[string]netip.Addr{"10.1.0.6": one, "10.1.0.7": two, "10.1.0.64": {}} {
		if got := behind(routes, netip.MustParseAddr(addr)).VTEP; got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func TestFlowKnowsItsPackets(t *testing.T) {
	from, to := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3")
	from6, to6 := netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3")
	for _, test := range []struct {
		name            string
		flow            Flow
		packet          []byte
		request, answer bool
	}{
		{"an echo", Flow{From: from, To: to, Mark: 7}, packet(1, from, to, []byte{8, 0, 0, 0, 0, 7, 0, 0}), true, false},
		{"its reply", Flow{From: from, To: to, Mark: 7}, packet(1, to, from, []byte{0, 0, 0, 0, 0, 7, 0, 0}), false, true},
		{"another's echo", Flow{From: from, To: to, Mark: 7}, packet(1, from, to, []byte{8, 0, 0, 0, 0, 8, 0, 0}), false, false},
		{"a SYN", Flow{From: from, To: to, Port: 80, Mark: 61000}, packet(6, from, to, []byte{0xee, 0x48, 0, 80, 0, 0, 0, 0}), true, false},
		{"its answer", Flow{From: from, To: to, Port: 80, Mark: 61000}, packet(6, to, from, []byte{0, 80, 0xee, 0x48, 0, 0, 0, 0}), false, true},
		{"UDP", Flow{From: from, To: to, Port: 80, Mark: 61000}, packet(17, from, to, []byte{0xee, 0x48, 0, 80, 0, 0, 0, 0}), false, false},
		{"an ICMPv6 echo", Flow{From: from6, To: to6, Mark: 7}, packet(58, from6, to6, []byte{128, 0, 0, 0, 0, 7, 0, 0}), true, false},
		{"its reply", Flow{From: from6, To: to6, Mark: 7}, packet(58, to6, from6, []byte{129, 0, 0, 0, 0, 7, 0, 0}), false, true},
		{"a packet cut short", Flow{From: from, To: to, Mark: 7}, packet(1, from, to, nil), false, false},
	} {
		request, answer := test.flow.direction(test.packet)
		if request != test.request || answer != test.answer {
			t.Errorf("%s: request %v, answer %v", test.name, request, answer)
		}
	}
}

// The kernel's filter passes both ways, and nobody else's packets.
func TestFilter(t *testing.T) {
	for _, addrs := range [][3]string{{"10.1.0.2", "10.1.0.3", "10.1.0.4"}, {"fd00::2", "fd00::3", "fd00::4"}} {
		from, to, other := netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1]), netip.MustParseAddr(addrs[2])
		const offset = 64
		machine, err := bpf.NewVM(Flow{From: from, To: to}.filter(offset))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			source, destination netip.Addr
			pass                bool
		}{{from, to, true}, {to, from, true}, {from, other, false}, {other, to, false}, {to, other, false}, {from, from, false}} {
			passed, err := machine.Run(append(make([]byte, offset), packet(1, test.source, test.destination, make([]byte, 8))...))
			if err != nil || (passed > 0) != test.pass {
				t.Errorf("%s to %s: %d, %v", test.source, test.destination, passed, err)
			}
		}
	}
}

func packet(protocol byte, from, to netip.Addr, payload []byte) []byte {
	header := make([]byte, ipv4Len)
	header[0], header[9] = 0x45, protocol
	if from.Is6() {
		header = make([]byte, ipv6Len)
		header[0], header[6] = 0x60, protocol
	}
	addrs := append(from.AsSlice(), to.AsSlice()...)
	copy(header[len(header)-len(addrs):], addrs)
	return append(header, payload...)
}

func TestFind(t *testing.T) {
	endpoint := func(id, net, host, addr, name string, names ...string) fabric.Endpoint {
		return fabric.Endpoint{ID: id, Network: net, Host: host, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}, Name: name, Names: names}
	}
	r := Records{
		Hosts:    map[string]fabric.Host{"k1": {Name: "k1", Display: "h1"}, "k2": {Name: "k2", Display: "h2"}},
		Networks: map[string]fabric.Network{"n1": {ID: "n1", Mode: fabric.ModeVXLAN}, "n2": {ID: "n2", Mode: fabric.ModeOVS, Name: "deep"}},
		Endpoints: map[string]fabric.Endpoint{
			"1": endpoint("e1", "n1", "k1", "10.1.0.2/24", "web", "web", "0123456789ab", "www"),
			"2": endpoint("e2", "n1", "k2", "10.1.0.3/24", "db", "db", "store"),
			"3": endpoint("e3", "n1", "k2", "10.1.0.4/24", "db2", "db2", "store"),
			"4": endpoint("e4", "n2", "k1", "10.2.0.2/24", "web", "web"),
			"5": endpoint("e5", "n2", "k2", "10.2.0.3/24", "queue", "queue"),
			"6": endpoint("e6", "n3", "k2", "10.3.0.3/24", "far", "far"),
		},
	}
	for _, test := range []struct{ from, to, want, problem string }{
		{"web", "db", "e2", ""},
		{"0123456789ab", "10.1.0.4", "e3", ""},
		{"0123456789abcdef", "db", "e2", ""},
		{"www", "db2", "e3", ""},
		{"db", "web", "", "runs on host h2"},
		{"nobody", "web", "", "is called nobody"},
		{"web", "nobody", "", "is called nobody"},
		{"web", "store", "", "give its own name"},
		{"web", "far", "", "on none of the networks"},
		{"web", "192.0.2.1", "", "the way out of a network is not traced"},
		{"web", "queue", "e5", ""},
	} {
		p, err := r.find(test.from, test.to, "k1")
		if p.to.ID != test.want || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s to %s: %q, %v", test.from, test.to, p.to.ID, err)
		}
	}
}
