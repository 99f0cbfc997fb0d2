package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestStatus(t *testing.T) {
	h1 := fabric.Host{Name: "h1", VTEP: netip.MustParseAddr("10.99.0.1"), MTU: 1500, Version: "1.0"}
	h2 := fabric.Host{Name: "h2", VTEP: netip.MustParseAddr("10.99.0.2"), MTU: 1500, Version: "0.9"}
	foo := fabric.Network{ID: "n1", Name: "foo", Mode: fabric.ModeVXLAN, VNI: 42, Subnets: []fabric.Subnet{
		{Pool: "p1", Prefix: netip.MustParsePrefix("192.168.1.0/24")},
		{Pool: "p2", Prefix: netip.MustParsePrefix("fd00::/64")},
	}}
	e1 := fabric.Endpoint{ID: "e1", Name: "web", Network: "n1", Host: "h2", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")}}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := storetest.New(t)
	address := func(text string) string { return records.AddressKey("p1", netip.MustParseAddr(text)) }
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.HostKey("h1"), h1), kvstore.Put(records.HostKey("h2"), h2),
		kvstore.Put(records.AliveKey("h1"), records.Alive{Since: since}),
		kvstore.Put(records.NetworkKey("n1"), foo),
		kvstore.Put(records.EndpointKey("n1", "e1"), e1),
		kvstore.Put(address("192.168.1.1"), records.Address{Kind: records.KindGateway, Host: "h1"}),
		kvstore.Put(address("192.168.1.2"), records.Address{Kind: records.KindEndpoint, Host: "h2", Endpoint: "e1"}),
		kvstore.Put(address("192.168.1.3"), records.Address{Kind: records.KindFree}),
	}}); err != nil {
		t.Fatal(err)
	}
	want := Status{
		Host: "h1", Version: "1.0",
		Hosts: []Host{{Host: h1, AliveSince: &since}, {Host: h2, Endpoints: 1}},
		Networks: []Network{{Network: foo, Hosts: []string{"h2"}, Pools: []Pool{
			{Prefix: foo.Subnets[0].Prefix, Used: 2, Free: 252}, {Prefix: foo.Subnets[1].Prefix, Free: -1},
		}}},
		Endpoints: []Endpoint{{Endpoint: e1, NetworkName: "foo"}},
		Drops:     []hostfilter.Drop{},
		PortDrops: []PortDrop{
			{Endpoint: "gone", Reason: "spoofed MAC", Frames: 1},
			{Network: "n1", NetworkName: "foo", Endpoint: "e1", Name: "web", Reason: "DHCP server answer", Frames: 7},
			{Network: "n1", NetworkName: "foo", Endpoint: "e1", Name: "web", Reason: "spoofed MAC", Frames: 3},
		},
		Troubles: []string{"a trouble", "host h2 runs causeway 0.9, this one 1.0: bring all hosts to one version"},
	}
	got := status(t.Context(), store, h1, []health.Fault{{Text: "a trouble"}})
	got.addPortDrops(map[string]fabric.Drops{"e1": {"spoofed MAC": 3, "DHCP server answer": 7}, "gone": {"spoofed MAC": 1}})
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

// away is a store that does not answer.
type away struct{ kvstore.Store }

func (away) List(context.Context, string) (kvstore.Snapshot, error) {
	return kvstore.Snapshot{}, kvstore.ErrUnavailable
}

// A store that is away hides the lists, and no fault of this host.
func TestStatusWhileTheStoreIsAway(t *testing.T) {
	s := status(t.Context(), away{}, fabric.Host{Name: "h1"}, []health.Fault{{Text: "a fault of this host"}})
	want := []string{"the lists of hosts, networks and endpoints cannot be read: store unavailable", "a fault of this host"}
	if !slices.Equal(s.Troubles, want) || s.Store != "store unavailable" {
		t.Errorf("store %q, troubles %q, want %q", s.Store, s.Troubles, want)
	}
}

// Records that cannot be decoded hide no others, and are one trouble for each kind.
func TestStatusCountsBadRecords(t *testing.T) {
	store := storetest.New(t)
	puts := []kvstore.Op{kvstore.Put(records.NetworkKey("n1"), fabric.Network{ID: "n1"}), kvstore.Put(records.HostKey("h1"), 7)}
	for n := range 10_000 {
		puts = append(puts, kvstore.Put(records.EndpointKey("n1", fmt.Sprintf("%05d", n)), "no endpoint"))
	}
	for batch := range slices.Chunk(puts, 128) {
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: batch}); err != nil {
			t.Fatal(err)
		}
	}
	s := status(t.Context(), store, fabric.Host{Name: "h1"}, nil)
	want := []string{
		"1 of the records below hosts/ cannot be read and are ignored, for example record hosts/h1: json: cannot unmarshal number into Go value of type fabric.Host",
		"10000 of the records below endpoints/ cannot be read and are ignored, for example record endpoints/n1/00000: json: cannot unmarshal string into Go value of type fabric.Endpoint",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, s.Troubles); diff != "" || len(s.Networks) != 1 || s.Store != "" {
		t.Errorf("store %q, %d networks, troubles %s", s.Store, len(s.Networks), diff)
	}
	// The loop reported the hosts' records already.
	told := health.Fault{Scope: health.Scope{Part: health.Records, Object: "hosts"}, Text: "told"}
	want = []string{"told", want[1]}
	if diff := cmp.Diff(want, status(t.Context(), store, fabric.Host{Name: "h1"}, []health.Fault{told}).Troubles); diff != "" {
		t.Error(diff)
	}
}

func TestStatusTellsOfOverlaps(t *testing.T) {
	networks := map[string]fabric.Network{
		"n0": {ID: "n0", Name: "foo", Subnets: []fabric.Subnet{{Pool: "default-172.19.0.0-16", Prefix: netip.MustParsePrefix("172.19.0.0/16")}}},
		"n9": {ID: "n9", Subnets: []fabric.Subnet{{Pool: "net.n9-10.1.0.0-24", Prefix: netip.MustParsePrefix("10.1.0.0/24")}}}, // the other is gone
	}
	const text = "networks whose subnets overlap another's are kept apart, each with its own addresses: bar1 (172.19.1.0/24, as foo)"
	for n, want := range map[int][]string{0: nil, 1: {text}, 2: {text + ", bar2 (172.19.2.0/24, as foo)"}} {
		for bar := range n {
			id := fmt.Sprint("n", bar+1)
			networks[id] = fabric.Network{ID: id, Name: fmt.Sprint("bar", bar+1), Subnets: []fabric.Subnet{
				{Pool: "net.x", Prefix: netip.MustParsePrefix(fmt.Sprintf("172.19.%d.0/24", bar+1))},
			}}
		}
		if diff := cmp.Diff(want, overlaps(networks)); diff != "" {
			t.Error(diff)
		}
		delete(networks, "n1")
		delete(networks, "n2")
	}
	for n := range 12 {
		id := fmt.Sprint("m", n)
		networks[id] = fabric.Network{ID: id, Subnets: []fabric.Subnet{{Pool: "net.x", Prefix: netip.MustParsePrefix("172.19.0.0/24")}}}
	}
	if got := overlaps(networks); len(got) != 1 || !strings.HasSuffix(got[0], ", and 2 more") {
		t.Error(got)
	}
}

func TestReleaseByTheNameThatIsShown(t *testing.T) {
	store := storetest.New(t)
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.HostKey("h1"), fabric.Host{Name: "h1", Display: "web"}), kvstore.Put(records.HostKey("h2"), fabric.Host{Name: "h2"}),
	}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"web": "h1", "h2": "h2", "h9": "h9"} {
		if key, err := hostKey(t.Context(), store, name); key != want || err != nil {
			t.Errorf("%s is the host %s, %v; want %s", name, key, err, want)
		}
	}
}

func TestStatusOfNothing(t *testing.T) {
	unused := storetest.New(t)
	if _, err := unused.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.NetworkKey("n1"), fabric.Network{ID: "n1", Subnets: []fabric.Subnet{}}),
	}}); err != nil {
		t.Fatal(err)
	}
	for name, store := range map[string]kvstore.Store{"empty": storetest.New(t), "unused": unused, "away": away{}} {
		s := status(t.Context(), store, fabric.Host{Name: "h1"}, nil)
		if (s.Store == "") != (name != "away") {
			t.Errorf("%s: the store says %q", name, s.Store)
		}
		text, err := json.Marshal(s)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}
