package fabric

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestWireGuardAddr(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 32, 32)
		one := WireGuard{Key: base64.StdEncoding.EncodeToString(key.Draw(t, "one")), Port: 1}
		other := WireGuard{Key: base64.StdEncoding.EncodeToString(key.Draw(t, "other")), Port: 1}
		if err := one.Check(); err != nil {
			t.Error(err)
		}
		if addr := one.Addr(); !addr.IsPrivate() || !addr.Is6() {
			t.Errorf("%s is not unique-local", addr)
		}
		if (one.Key == other.Key) != (one.Addr() == other.Addr()) {
			t.Error("two keys have one address")
		}
	})
	if (WireGuard{}).Addr() != (netip.Addr{}) || (WireGuard{}).Check() != nil {
		t.Error("a host without a device has an address")
	}
	for _, bad := range []WireGuard{{Key: "abc", Port: 1}, {Key: base64.StdEncoding.EncodeToString(make([]byte, 32))}, {Port: 1}} {
		if bad.Check() == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestEncryptedNetworksUseTheDevicesAddresses(t *testing.T) {
	key := func(n byte) WireGuard {
		return WireGuard{Key: base64.StdEncoding.EncodeToString(append(make([]byte, 31), n)), Port: 51822}
	}
	network := Network{ID: "n", Mode: ModeVXLAN, Encrypted: true}
	endpoint := func(id, host string) Endpoint { return Endpoint{ID: id, Network: "n", Host: host} }
	s := State{
		Hosts: map[string]Host{
			"h1": {Name: "h1", VTEP: v4(0, 1), MTU: 1500, Ends: Ends{WireGuard: key(1)}},
			"h2": {Name: "h2", VTEP: v4(0, 2), MTU: 1500, Ends: Ends{WireGuard: key(2), Next: key(4)}},
			"h3": {Name: "h3", VTEP: v4(0, 3), MTU: 1500}, // it has told no key: nothing is sent to it
		},
		Networks:  map[string]Network{"n": network},
		Endpoints: map[string]map[string]Endpoint{"n": {"a": endpoint("a", "h1"), "b": endpoint("b", "h2"), "c": endpoint("c", "h3")}},
	}
	segment := Plan(s, "h1")[0]
	if segment.VTEP != key(1).Addr() || len(segment.Remote) != 1 || segment.Remote[0].VTEP != key(2).Addr() {
		t.Errorf("planned %+v", segment)
	}
	if len(segment.Flood) != 1 || segment.Flood[0] != key(2).Addr() {
		t.Errorf("flooded to %v", segment.Flood)
	}
	if senders := segment.Senders(); len(senders) != 2 || !slices.Contains(senders, key(2).Addr()) || !slices.Contains(senders, key(4).Addr()) {
		t.Errorf("let %v in", senders)
	}
	if segment.MTU != 1500-60-70 {
		t.Errorf("the MTU is %d", segment.MTU)
	}
	routed := Network{ID: "n", Mode: ModeRouted, Via: ViaAuto, Encrypted: true, Subnets: []Subnet{{Prefix: netip.PrefixFrom(v4(1, 0), 24)}}}
	s.Networks["n"] = routed
	s.Blocks = map[string][]Block{"n": {{netip.PrefixFrom(v4(1, 64), 26), "h2"}, {netip.PrefixFrom(v4(1, 128), 26), "h3"}}}
	segment = Plan(s, "h1")[0]
	if want := []Route{{netip.PrefixFrom(v4(1, 64), 26), Way{v4(0, 2), key(2).Addr()}}}; !slices.Equal(segment.Routes, want) {
		t.Errorf("routed by %v", segment.Routes)
	}
	if segment.MTU != 1500-60-70 || segment.TunnelMTU != segment.MTU {
		t.Errorf("the routed MTU is %d, through the tunnel %d", segment.MTU, segment.TunnelMTU)
	}
}
