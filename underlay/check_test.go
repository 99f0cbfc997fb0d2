package underlay

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.IP(`link add br0 type bridge
		link add port0 type veth peer name port1
		link set port0 master br0 up
		link set port1 up
		link add dead0 type veth peer name dead1
		link set dead0 up
		link add ovs0 type veth peer name ovs1
		link set ovs0 up
		link add base0 type veth peer name base1
		link set base0 up
		link set base1 up
		link add mac0 link base0 type macvlan
		link set mac0 up
		tuntap add tun0 mode tun`)
	p := newPlane(t, l.Host, t.TempDir())
	p.InUse = func(_ context.Context, device string) string {
		return map[string]string{"ovs0": "ovsbr"}[device]
	}
	apply(t, p, segment("first", nil)) // eth0 is taken
	text := func() string { return lantest.WithoutTimers(l.Host.Run("ip", "-d", "addr")) }
	before := text()
	for name, test := range map[string]struct {
		network fabric.Network
		want    string
	}{
		"missing":       {fabric.Network{Parent: "eth9"}, "parent eth9: no such interface"},
		"loopback":      {fabric.Network{Parent: "lo"}, "parent lo cannot be used: it is the loopback"},
		"bridge":        {fabric.Network{Parent: "br0"}, "parent br0 cannot be used: it is a bridge itself; use -o bridge=br0"},
		"port":          {fabric.Network{Parent: "port0"}, "parent port0 cannot be used: it is in bridge br0 already; use -o bridge=br0"},
		"no Ethernet":   {fabric.Network{Parent: "tun0"}, "parent tun0 cannot be used: it is no Ethernet device but none"},
		"macvlan":       {fabric.Network{Parent: "mac0"}, "parent mac0 cannot be used: a macvlan hears no frames but its own"},
		"under macvlan": {fabric.Network{Parent: "base0"}, "parent base0 cannot be used: the macvlan mac0 is on it"},
		"no carrier":    {fabric.Network{Parent: "dead0"}, "parent dead0 has no carrier; use it all the same with -o force=true"},
		"MTU":           {fabric.Network{Parent: "port1", MTU: 9000}, "option mtu=9000 is more than the 1500 of parent port1"},
		"name too long": {
			fabric.Network{Parent: "port1", Bridge: "sixteen-bytes-xy"},
			`bridge name "sixteen-bytes-xy" must have 1 to 15 bytes, and no slash, colon or space`,
		},
		"name of a link": {
			fabric.Network{Parent: "port1", Bridge: "br0"},
			"bridge br0 is there already: leave parent out to use it as it is, or give another name",
		},
		"no such bridge": {fabric.Network{Bridge: "br9"}, "bridge br9: no such interface; give -o parent=… to have it made"},
		"not a bridge":   {fabric.Network{Bridge: "port1"}, "port1 is no bridge but a veth"},
		"name of a NIC": {
			fabric.Network{Parent: "port1", Bridge: "eth0"},
			"eth0 is there already and no bridge but a veth: give the bridge another name",
		},
		"VLAN of loopback":    {fabric.Network{Parent: "lo", VLAN: 7}, "parent lo cannot be used: it is the loopback"},
		"VLAN of no Ethernet": {fabric.Network{Parent: "tun0", VLAN: 7}, "parent tun0 cannot be used: it is no Ethernet device but none"},
		"in Open vSwitch":     {fabric.Network{Parent: "ovs0"}, "parent ovs0 cannot be used: it is in the Open vSwitch bridge ovsbr already"},
		"two bridges": {
			fabric.Network{Parent: "eth0", Bridge: "other"},
			"parent eth0 is in bridge cw-eth0: another network cannot put it into other",
		},
		"two parents": {
			fabric.Network{Parent: "port1", Bridge: "cw-eth0"},
			"bridge cw-eth0 is that of eth0: port1 needs another",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := p.Check(t.Context(), test.network)
			if err == nil || err.Error() != "underlay: "+test.want {
				t.Errorf("got  %v\nwant underlay: %s", err, test.want)
			}
			segment := fabric.Segment{Network: test.network}
			segment.Network.ID = name
			if _, err := p.Apply(t.Context(), segment); err == nil {
				t.Error("Apply took what Check refused")
			}
		})
	}
	if diff := cmp.Diff(before, text()); diff != "" {
		t.Errorf("a refusal changed the host:\n%s", diff)
	}
	for _, fine := range []fabric.Network{
		{Parent: "eth0"}, {Parent: "port1"}, {Bridge: "br0"}, {Bridge: "cw-eth0"},
		{Parent: "dead0", Force: true},
	} {
		if err := p.Check(t.Context(), fine); err != nil {
			t.Errorf("%+v: %v", fine, err)
		}
	}
}

// TestMasters has what the test's own kernel may lack.
func TestMasters(t *testing.T) {
	for kind, want := range map[string]string{
		"bond":        "parent port0 cannot be used: it is in the bond over0 already; use that as the parent",
		"team":        "parent port0 cannot be used: it is in the team over0 already; use that as the parent",
		"vrf":         "parent port0 cannot be used: it is in the vrf over0 already",
		"openvswitch": "parent port0 cannot be used: it is in an Open vSwitch bridge already",
	} {
		t.Run(kind, func(t *testing.T) {
			port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port0"}}
			over := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "over0"}, LinkType: kind}
			if err := inMaster(port, over); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if kind == "openvswitch" {
				return // its ports are not put in by netlink
			}
			host := lantest.NewMachine(t, "host")
			words := strings.Fields("link add over0 type " + kind)
			if kind == "vrf" {
				words = append(words, "table", "10")
			}
			if out, err := host.Command("ip", words...); err != nil {
				t.Skipf("the kernel has no %s: %s", kind, out)
			}
			host.IP(`link add port0 type veth peer name port1
				link set port1 up
				link set port0 master over0
				link set port0 up`)
			err := newPlane(t, host, t.TempDir()).Check(t.Context(), fabric.Network{Parent: "port0"})
			if err == nil || err.Error() != "underlay: "+want {
				t.Errorf("got  %v\nwant underlay: %s", err, want)
			}
		})
	}
}

func TestTagIsTaken(t *testing.T) {
	parent := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Index: 3}}
	vlan := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "storage", Index: 5, ParentIndex: 3}, VlanId: 7}
	other := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0.8", Index: 6}}
	links := []netlink.Link{parent, vlan, other}
	for tag, want := range map[int]string{
		7: "storage is VLAN 7 of eth0 already: use -o parent=storage without vlan",
		8: "eth0.8 is there already and not VLAN 8 of eth0: give it another name",
	} {
		if err := checkTag(links, parent, tag); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if err := checkTag(links, parent, 9); err != nil {
		t.Error(err)
	}
}

func TestForcedWithoutCarrier(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.IP(`link add dead0 type veth peer name dead1
		addr add 198.51.100.10/24 dev dead0`)
	before := l.Host.Text("dead0")
	p := newPlane(t, l.Host, t.TempDir())
	apply(t, p, segment("phys", func(n *fabric.Network) {
		n.Parent, n.Force = "dead0", true
	}))
	if got := l.Host.Text("cw-dead0"); !strings.Contains(got, "198.51.100.10/24") {
		t.Errorf("the bridge has no address:\n%s", got)
	}
	prune(t, p)
	if diff := cmp.Diff(before, l.Host.Text("dead0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	if got := l.Host.Run("ip", "-o", "link", "show", "dead0"); strings.Contains(got, "UP") {
		t.Errorf("the NIC was down: %s", got)
	}
}

func TestVLAN(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	before := l.Host.Run("ip", "addr") + l.Host.Text("eth0")
	p := newPlane(t, l.Host, t.TempDir())
	e := endpoint("e1", "198.51.100.10/24")
	s := segment("tagged", func(n *fabric.Network) { n.VLAN = 100 }, e)
	if err := p.Check(t.Context(), s.Network); err != nil {
		want := "underlay: the kernel lacks 802.1q (module 8021q), which -o vlan=100 needs"
		if err.Error() != want {
			t.Fatalf("got  %v\nwant %s", err, want)
		}
		if after := l.Host.Run("ip", "addr") + l.Host.Text("eth0"); after != before {
			t.Errorf("the refusal changed the host:\n%s", cmp.Diff(before, after))
		}
		t.Skip("the kernel lacks 802.1q; that it is said was tested")
	}
	apply(t, p, s)
	c := start(l, p, s, e)
	l.Plain.IP(`link add link eth0 name eth0.100 type vlan id 100
		addr add 198.51.100.20/24 dev eth0.100
		link set eth0.100 up`)
	c.Reaches("198.51.100.20")
	l.Host.Reaches("192.0.2.1")
	apply(t, p, segment("phys", nil)) // the untagged wire of the same NIC
	c.Reaches("198.51.100.20")
	l.Host.Reaches("192.0.2.1")
	prune(t, p)
	if diff := cmp.Diff(before, l.Host.Run("ip", "addr")+l.Host.Text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
}

func TestBridgeNames(t *testing.T) {
	for want, network := range map[string]fabric.Network{
		"cw-eth0":     {Parent: "eth0"},
		"cw-eth0.100": {Parent: "eth0", VLAN: 100},
		"mydr0":       {Parent: "eth0", Bridge: "mydr0"},
		fabric.DeviceName("cw-", "cw-enp0s31f6abcd"): {Parent: "enp0s31f6abcd"},
	} {
		if got := bridgeName(network); got != want || len(got) > maxName {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
