package ovs

import (
	"strings"
	"testing"

	"github.com/causeway-net/causeway/internal/planetest"
)

func TestTheKernelsDatapathCarriesFrames(t *testing.T) {
	if !kernelDatapath() {
		t.Skip("this kernel has no Open vSwitch datapath (module openvswitch)")
	}
	site := newSite(t)
	site.datapath = "system"
	rig, _, a, b := planetest.Two(t, site.suite("10.99.0.0", ""))
	if !pings(t, a, v4(b)) || !pings(t, b, v6(a)) {
		t.Error("containers do not talk")
	}
	if datapath := site.machine(t, rig.Hosts[0]).tool(t, "ovs-vsctl", "get", "Bridge", bridge, "datapath_type"); datapath != "system\n" {
		t.Errorf("the bridge has the datapath %s", datapath)
	}
}

func TestWithoutTheKernelsDatapathItIsTheOneInUserspace(t *testing.T) {
	if kernelDatapath() {
		t.Skip("this kernel has an Open vSwitch datapath")
	}
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	if chosen := host.Plane.(*Plane).Datapath; chosen != "netdev" {
		t.Errorf("New chose %s", chosen)
	}
	if err := host.Plane.Check(t.Context(), network); err != nil {
		t.Error(err)
	}
	rig.Start(host, network, 2)
	m := site.machine(t, host)
	if datapath := m.tool(t, "ovs-vsctl", "get", "Bridge", bridge, "datapath_type"); datapath != "netdev\n" {
		t.Errorf("the bridge has the datapath %s", datapath)
	}
	// That address cannot send what userspace makes, and Check knows whose it is.
	m.ip(t, "addr", "del", "10.99.0.1/24", "dev", "brphy")
	m.ip(t, "addr", "add", "10.99.0.1/24", "dev", "eth0")
	if err := host.Plane.Check(t.Context(), network); err == nil || !strings.Contains(err.Error(), "the userspace datapath sends tunnels only through") {
		t.Errorf("Check: %v", err)
	}
}

func TestTheKernelsDatapathIsRefusedWhereThereIsNone(t *testing.T) {
	if kernelDatapath() {
		t.Skip("this kernel has an Open vSwitch datapath")
	}
	site := newSite(t)
	site.datapath = "system"
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	rig.Record(host, network, 2)
	_, applied := host.Plane.Apply(t.Context(), rig.Segment(host, network))
	for name, err := range map[string]error{"Check": host.Plane.Check(t.Context(), network), "Apply": applied} {
		if err == nil || !strings.Contains(err.Error(), "the kernel has no Open vSwitch datapath, which the setting system asks for") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if bridges := site.machine(t, host).tool(t, "ovs-vsctl", "list-br"); bridges != "brphy\n" {
		t.Errorf("bridges left: %q", bridges)
	}
}
