package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

// laid are segments as they are.
type laid []fabric.Segment

func (l laid) Networks(context.Context) (ids []string, err error) {
	for _, segment := range l {
		ids = append(ids, segment.Network.ID)
	}
	return ids, nil
}

func (l laid) Segment(_ context.Context, id string) (fabric.Segment, bool, error) {
	for _, segment := range l {
		if segment.Network.ID == id {
			return segment, true, nil
		}
	}
	return fabric.Segment{}, false, nil
}

func (l laid) Inspect(ctx context.Context, id string) (fabric.Segment, []string, error) {
	segment, _, err := l.Segment(ctx, id)
	return segment, nil, err
}

func endpointOf(id, host, mac string, addrs ...string) fabric.Endpoint {
	e := fabric.Endpoint{ID: id, Name: id, Host: host}
	_ = e.MAC.UnmarshalText([]byte(mac)) // empty: it does not matter
	for _, addr := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParsePrefix(addr))
	}
	return e
}

func macOf(m *lantest.Machine, device string) string {
	return m.Link(device).Attrs().HardwareAddr.String()
}

// A second machine with a container's address is found by its MAC; the container is not.
func TestStrangerWithAContainersAddress(t *testing.T) {
	lan := lantest.NewLAN(t)
	container := lantest.NewMachine(t, "container")
	lan.Connect(container, "eth0", "192.0.2.50/24", "2001:db8:1::50/64")
	network := fabric.Network{ID: "n1", Name: "lan", Mode: fabric.ModeUnderlay, Parent: "eth0"}
	in := &Inputs{
		HostNS: lan.Host.NS, Device: func(n fabric.Network) string { return n.Parent },
		Planes: laid{{Network: network, Local: []fabric.Endpoint{endpointOf("web", "h1", macOf(container, "eth0"), "192.0.2.50/24", "2001:db8:1::50/64")}}},
	}
	found, err := strangers(t.Context(), in)
	wantNone(t, found, err)
	for _, addr := range []string{"192.0.2.50/24", "2001:db8:1::50/64"} {
		lan.Plain.Run("ip", "addr", "add", addr, "dev", "eth0", "nodad")
		found, err = strangers(t.Context(), in)
		f := wantOne(t, found, err, "Another machine on the LAN answers for "+netip.MustParsePrefix(addr).Addr().String())
		if !strings.Contains(f.Evidence, macOf(lan.Plain, "eth0")) {
			t.Error(f.Evidence)
		}
		lan.Plain.Run("ip", "addr", "del", addr, "dev", "eth0")
	}
}

// What a switch does to checksums on the way comes to the container's count.
func TestWrongChecksums(t *testing.T) {
	lan := lantest.NewLAN(t)
	dir := t.TempDir()
	if err := os.Symlink(lan.Plain.Path(), filepath.Join(dir, "plain")); err != nil {
		t.Fatal(err)
	}
	in := &Inputs{SandboxDir: dir, Planes: laid{{
		Network: fabric.Network{ID: "n1", Mode: fabric.ModeVXLAN},
		Local:   []fabric.Endpoint{endpointOf("web", "h1", macOf(lan.Plain, "eth0"), "192.0.2.200/24")},
	}}}
	found, err := checksums(t.Context(), in)
	wantNone(t, found, err)
	lan.Host.Run("ethtool", "-K", "eth0", "tx", "off")
	lan.Switch.Run("nft", "add table netdev broken; add chain netdev broken in { type filter hook ingress device p1 priority 0; }; add rule netdev broken in tcp dport 80 tcp checksum set 7")
	lan.Host.Run("bash", "-c", "for n in 1 2 3 4; do timeout 0.3 bash -c '</dev/tcp/192.0.2.200/80'; done; true")
	found, err = checksums(t.Context(), in)
	if f := wantOne(t, found, err, "Container web gets TCP segments with wrong checksums"); !strings.Contains(f.Evidence, "4 of 4 segments") {
		t.Error(f.Evidence)
	}
}

func TestWhoIsAskedByEcho(t *testing.T) {
	segment := func(id string, n fabric.Network, local fabric.Endpoint, remote ...fabric.Endpoint) fabric.Segment {
		n.ID = id
		s := fabric.Segment{Network: n, MTU: 1500, Local: []fabric.Endpoint{local}}
		for _, e := range remote {
			s.Remote = append(s.Remote, fabric.Peer{Endpoint: e, VTEP: netip.MustParseAddr("10.99.0." + e.Host[1:])})
		}
		return s
	}
	four := func(id, host string) fabric.Endpoint { return endpointOf(id, host, "", "10.1.0."+id+"/24") }
	six := func(id, host string) fabric.Endpoint { return endpointOf(id, host, "", "fd00::"+id+"/64") }
	for name, test := range map[string]struct {
		segments []fabric.Segment
		want     []string // network, host and addresses
	}{
		"the tunnels of vxlan are asked by ARP": {[]fabric.Segment{segment("v", fabric.Network{Mode: fabric.ModeVXLAN}, four("1", "h1"), four("2", "h2"))}, nil},
		"the LAN is not asked":                  {[]fabric.Segment{segment("u", fabric.Network{Mode: fabric.ModeUnderlay}, four("1", "h1"), four("2", "h2"))}, nil},
		"IPv6 alone":                            {[]fabric.Segment{segment("v", fabric.Network{Mode: fabric.ModeVXLAN}, six("1", "h1"), six("2", "h2"))}, []string{"v h2 [fd00::2]"}},
		"each host once, two containers of it": {[]fabric.Segment{
			segment("r", fabric.Network{Mode: fabric.ModeRouted}, four("1", "h1"), four("2", "h2"), four("3", "h2"), four("4", "h2"), four("5", "h3")),
			segment("s", fabric.Network{Mode: fabric.ModeRouted}, four("1", "h1"), four("2", "h2")),
		}, []string{"r h2 [10.1.0.2 10.1.0.3]", "r h3 [10.1.0.5]"}},
		"each kind of tunnel": {[]fabric.Segment{
			segment("o", fabric.Network{Mode: fabric.ModeOVS}, four("1", "h1"), four("2", "h2")),
			segment("p", fabric.Network{Mode: fabric.ModeOVS, Tunnel: "gre"}, four("1", "h1"), four("2", "h2")),
		}, []string{"o h2 [10.1.0.2]", "p h2 [10.1.0.2]"}},
		"no address in common": {[]fabric.Segment{segment("r", fabric.Network{Mode: fabric.ModeRouted}, four("1", "h1"), six("2", "h2"))}, nil},
	} {
		var got []string
		for _, trip := range planEchoes(test.segments) {
			for _, route := range trip.routes {
				got = append(got, fmt.Sprint(trip.network.ID, " ", route.host, " ", route.to))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
