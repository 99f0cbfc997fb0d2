package fabric

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheckPeer(t *testing.T) {
	self := Host{Name: "h1", VTEP: v4(0, 1)}
	for name, test := range map[string]struct {
		peer Host
		want string
	}{
		"sane":           {Host{Name: "h2", VTEP: v4(0, 2), MTU: 1500}, ""},
		"no MTU told":    {Host{Name: "h2", VTEP: v4(0, 2)}, ""},
		"MTU of 1":       {Host{Name: "h2", VTEP: v4(0, 2), MTU: 1}, "has the MTU 1, which is not from 68 to 65535 and is ignored"},
		"MTU below zero": {Host{Name: "h2", VTEP: v4(0, 2), MTU: -5}, "has the MTU -5"},
		"MTU too large":  {Host{Name: "h2", VTEP: v4(0, 2), MTU: 999_999_999}, "has the MTU 999999999"},
		"no VTEP":        {Host{Name: "h2"}, "has no VTEP"},
		"other family":   {Host{Name: "h2", VTEP: v6(0, 2)}, "to which no tunnel leads from this host's 10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckPeer(self, test.peer)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCheckChange(t *testing.T) {
	before := Network{ID: "n1", Name: "foo", Mode: ModeVXLAN, VNI: 7, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}}}
	same := before
	same.Name, same.Labels, same.MTU = "bar", map[string]string{"a": "b"}, 1400
	if err := CheckChange(before, same); err != nil {
		t.Errorf("a new name: %v", err)
	}
	for field, change := range map[string]func(*Network){
		"mode":    func(n *Network) { n.Mode = ModeOVS },
		"VNI":     func(n *Network) { n.VNI = 8 },
		"tunnel":  func(n *Network) { n.Tunnel = "gre" },
		"parent":  func(n *Network) { n.Parent = "eth0" },
		"bridge":  func(n *Network) { n.Bridge = "br0" },
		"VLAN":    func(n *Network) { n.VLAN = 9 },
		"subnets": func(n *Network) { n.Subnets = []Subnet{{Prefix: netip.MustParsePrefix("10.2.0.0/24")}} },
	} {
		after := before
		change(&after)
		if err := CheckChange(before, after); err == nil || !strings.Contains(err.Error(), "the "+field+" of network foo w") {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
