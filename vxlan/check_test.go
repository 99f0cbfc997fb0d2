package vxlan

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

func TestCheckSaysWhy(t *testing.T) {
	rig := planetest.NewRig(t, suite("10.99.0.0"), 1)
	host := rig.Hosts[0]
	hand := func(command string) {
		t.Helper()
		words := strings.Fields(command)
		if out, err := planetest.Output(t, host.NS, words[0], words[1:]...); err != nil {
			t.Fatalf("%s: %s", command, out)
		}
	}
	hand("ip link add theirs type vxlan id 4097 dstport 4789 local 10.99.0.1")
	hand("ip link add elsewhere type vxlan id 4098 dstport 8472 local 10.99.0.1")
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	moved := host.Dir + "/netns/1-theirs"
	if err := nl.Bind(ns, moved); err != nil {
		t.Fatal(err)
	}
	hand("ip link add moved type vxlan id 4099 dstport 4789 local 10.99.0.1 nolearning")
	hand("ip link set moved netns " + moved)

	six := []fabric.Subnet{{Prefix: netip.MustParsePrefix("fd00::/64")}}
	for name, test := range map[string]struct {
		network fabric.Network
		want    string // in the error; empty for none
	}{
		"fine":                    {fabric.Network{VNI: 1, MTU: 1280, Subnets: six}, ""},
		"the VNI at another port": {fabric.Network{VNI: 4098}, ""},
		"no VNI":                  {fabric.Network{}, "VNI 0 is not between 1 and 16777215"},
		"too large a VNI":         {fabric.Network{VNI: 1 << 24}, "VNI 16777216 is not between"},
		"VNI of the host's":       {fabric.Network{VNI: 4097}, "VNI 4097 on UDP port 4789 is taken by device theirs"},
		"VNI of another's":        {fabric.Network{VNI: 4099}, "VNI 4099 on UDP port 4789 is taken by " + moved},
		"MTU below IP":            {fabric.Network{VNI: 1, MTU: 60}, "MTU 60 is less than IP's least"},
		"MTU below IPv6":          {fabric.Network{VNI: 1, MTU: 1279, Subnets: six}, "MTU 1279 is less than IPv6's least"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, host.Plane.Check(t.Context(), test.network), test.want)
		})
	}

	network := rig.Network(1)
	network.VNI = 4099
	segment := fabric.Segment{Network: network, VTEP: host.VTEP, MTU: 1450}
	_, err = host.Plane.Apply(t.Context(), segment)
	wantError(t, err, "vxlan: network network-1: VNI 4099 on UDP port 4789 is taken by "+moved)
	if out, err := planetest.Output(t, ns, "ip", "link", "del", "moved"); err != nil {
		t.Fatal(out)
	}
	if _, err := host.Plane.Apply(t.Context(), segment); err != nil {
		t.Errorf("when the VNI is free again: %v", err)
	}
	wantError(t, host.Plane.Check(t.Context(), network), "")

	segment.VTEP = netip.Addr{}
	_, err = host.Plane.Apply(t.Context(), segment)
	wantError(t, err, "vxlan: network network-1: this host has no VTEP address")
}

func TestPortInUse(t *testing.T) {
	rig := planetest.NewRig(t, suite("10.99.0.0"), 1)
	host := rig.Hosts[0]
	var other *net.UDPConn
	planetest.Within(t, host.NS, func() (err error) {
		other, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 4789})
		return err
	})
	segment := fabric.Segment{Network: rig.Network(1), VTEP: host.VTEP, MTU: 1450}
	_, err := host.Plane.Apply(t.Context(), segment)
	wantError(t, err, "UDP port 4789 of the host is another's: set vxlan0 up: address already in use")
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Plane.Apply(t.Context(), segment); err != nil {
		t.Errorf("when the port is free again: %v", err)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v, want no error", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	}
}
