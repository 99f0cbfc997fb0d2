package ovs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"

	"github.com/causeway-net/causeway/internal/vswitch"
)

func TestLostEntriesAreRepairedAndOthersFlowsStay(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	network, host := rig.Network(1), rig.Hosts[0]
	a, b := rig.Start(host, network, 2), rig.Start(rig.Hosts[1], network, 3)
	m := site.machine(t, host)
	before := m.flows(t)
	theirs := "table=30, priority=99,reg0=0x1 actions=drop"
	m.tool(t, "ovs-ofctl", "del-flows", bridge, "table=40")
	groups := m.groups(t)
	for id := range groups { // and the flow that names it goes with it
		m.tool(t, "ovs-ofctl", "-O", vswitch.OpenFlow15, "del-groups", bridge, fmt.Sprint("group_id=", id))
	}
	m.tool(t, "ovs-ofctl", "-O", vswitch.OpenFlow15, "add-group", bridge, "group_id=7,type=all")
	m.tool(t, "ovs-ofctl", "add-flow", bridge, theirs)
	m.tool(t, "ovs-ofctl", "add-flow", bridge, fmt.Sprintf("cookie=%#x,send_flow_rem,table=30,priority=98,reg0=0x1,actions=drop", cookieOf(network)))
	m.tool(t, "ovs-vsctl", "set", "Interface", "cwvxlan", "options:dst_port=4799")
	if repaired := rig.Apply(host); repaired != 0 {
		t.Errorf("before Invalidate %d entries were repaired", repaired)
	}
	host.Plane.Invalidate()
	if repaired := rig.Apply(host); repaired != 4 {
		t.Errorf("repaired %d entries, want two flows, the group and the tunnel port", repaired)
	}
	if diff := cmp.Diff(groups, m.groups(t)); diff != "" {
		t.Error(diff)
	}
	if diff := diffFlows(before, m.flows(t)); diff != "" {
		t.Error(diff)
	}
	host.Plane.Invalidate()
	if repaired := rig.Apply(host); repaired != 0 {
		t.Errorf("of what is right %d entries were repaired", repaired)
	}
	all, _, err := m.DumpGroups(t.Context())
	if _, others := ourGroups(all); others != 1 || err != nil {
		t.Errorf("of another's groups there are %d, want 1: %v", others, err)
	}
	if flows := m.tool(t, "ovs-ofctl", "--no-stats", "dump-flows", bridge, "cookie=0/-1"); !strings.Contains(flows, theirs) {
		t.Errorf("another's flow was removed: %s", flows)
	}
	m.tool(t, "ovs-ofctl", "del-flows", bridge, "cookie=0/-1")
	if !pings(t, a, v4(b)) {
		t.Error("containers do not talk")
	}
}

// A flood list of 3,000 hosts is more than one message, or one group, may hold.
func TestFloodingToThreeThousandHosts(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	rig.Start(host, network, 2)
	m, segment := site.machine(t, host), rig.Segment(host, network)
	for vtep, n := netip.MustParseAddr("10.100.0.1"), 0; n < 3000; vtep, n = vtep.Next(), n+1 {
		segment.Flood = append(segment.Flood, vtep)
	}
	apply := func(vteps int) {
		t.Helper()
		if _, err := host.Plane.Apply(t.Context(), segment); err != nil {
			t.Fatal(err)
		}
		if there := strings.Count(fmt.Sprint(m.groups(t)), "tun_dst"); there != vteps {
			t.Errorf("%d VTEPs are flooded to, want %d", there, vteps)
		}
	}
	apply(3000)
	host.Plane.Invalidate()
	apply(3000)
	trace := m.tool(t, "ovs-appctl", "ofproto/trace", bridge, fmt.Sprintf("in_port=%s,dl_src=%s,dl_dst=ff:ff:ff:ff:ff:ff,dl_type=0x0800,nw_src=%s",
		nl.HostEnd(segment.Local[0].ID), segment.Local[0].MAC, segment.Local[0].Addrs[0].Addr()))
	if sent := strings.Count(trace, "->tun_dst"); sent != 3000 {
		t.Errorf("a broadcast goes to %d VTEPs: %.2000s", sent, trace)
	}
	segment.Flood = segment.Flood[:1]
	apply(1)
}

func TestOurBridgesSettingsAreRepaired(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	network, host := rig.Network(1), rig.Hosts[0]
	a, b := rig.Start(host, network, 2), rig.Start(rig.Hosts[1], network, 3)
	m := site.machine(t, host)
	m.tool(t, "ovs-vsctl", "del-fail-mode", bridge) // Open vSwitch drops all flows with it
	host.Plane.Invalidate()
	if repaired := rig.Apply(host); repaired == 0 {
		t.Error("nothing was counted as repaired")
	}
	if mode := m.tool(t, "ovs-vsctl", "get-fail-mode", bridge); mode != "secure\n" {
		t.Errorf("the bridge has fail mode %q", mode)
	}
	if !pings(t, a, v4(b)) {
		t.Error("containers do not talk")
	}
}

func TestARestartedPlaneWritesNothing(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	network, host := rig.Network(1), rig.Hosts[0]
	rig.Start(host, network, 2)
	rig.Start(rig.Hosts[1], network, 3)
	plane := site.plane(t, host)
	defer plane.Close()
	var commands []string
	plane.vswitch.Exec = recording(plane.vswitch.Exec, &commands)
	if _, err := plane.Apply(t.Context(), rig.Segment(host, network)); err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		reads := func(verb string) bool { return strings.Contains(command, verb) }
		if !slices.ContainsFunc([]string{" list", " dump-", " br-exists ", " iface-to-br "}, reads) {
			t.Errorf("after a restart the plane ran %s", command)
		}
	}
}

func TestPortsHaveExternalIDs(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	endpoint := rig.Record(host, network, 2)
	rig.Apply()
	endpoint.Name = `web "1"` // as the record has it
	rig.Plug(host, network, endpoint)
	rows, err := site.machine(t, host).Interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(row vswitch.Interface) bool { return row.ExternalIDs[vswitch.IDEndpoint] == endpoint.ID })
	if i < 0 {
		t.Fatalf("no interface of endpoint %s: %+v", endpoint.ID, rows)
	}
	want := map[string]string{
		vswitch.IDNetwork: network.ID, vswitch.IDName: "foo", vswitch.IDEndpoint: endpoint.ID, vswitch.IDContainer: endpoint.Name,
		vswitch.IDIface: endpoint.ID, vswitch.IDMAC: endpoint.MAC.String(),
	}
	if diff := cmp.Diff(want, rows[i].ExternalIDs); diff != "" {
		t.Error(diff)
	}
}

func TestADeadContainerBlocksNoOther(t *testing.T) {
	rig := planetest.NewRig(t, newSite(t).suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	a, b := rig.Start(host, network, 2), rig.Start(host, network, 3)
	within(t, a.NS(), "ip", "link", "del", "eth0") // as when a container is killed
	rig.Apply()
	c := rig.Start(host, network, 4)
	host.Plane.Invalidate()
	rig.Apply()
	if !pings(t, b, v4(c)) || !pings(t, c, v6(b)) {
		t.Error("containers do not talk")
	}
}

func TestPortsAreDeletedInOneCommand(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	var containers []*planetest.Container
	for number := range 4 {
		containers = append(containers, rig.Start(host, network, number+2))
	}
	plane := host.Plane.(*Plane)
	var commands []string
	plane.vswitch.Exec = recording(plane.vswitch.Exec, &commands)
	for _, gone := range containers[1:] {
		rig.Forget(gone.Endpoint)
	}
	rig.Apply()
	if len(commands) != 2 || strings.Count(commands[0], "del-port") != 3 {
		t.Errorf("want one command for the ports and one for the flows, got:\n%s", strings.Join(commands, "\n"))
	}
}

func TestPruneKeepsWhatOthersMade(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	m := site.machine(t, host)
	endpoint := rig.Start(host, network, 2).Endpoint
	rig.Forget(endpoint)
	m.tool(t, "ovs-vsctl", "add-port", bridge, "theirs", "--", "set", "Interface", "theirs", "type=internal")
	m.tool(t, "ovs-ofctl", "add-flow", bridge, "in_port=theirs,actions=drop")
	m.tool(t, "ovs-ofctl", "-O", vswitch.OpenFlow15, "add-group", bridge, "group_id=7,type=all")
	host.Plane.Invalidate()
	rig.Prune()
	if left := m.tool(t, "ovs-vsctl", "list-ports", bridge); left != "theirs\n" {
		t.Errorf("ports left: %q", left)
	}
	if left := m.tool(t, "ovs-ofctl", "--no-stats", "dump-flows", bridge); strings.Count(left, "actions=") != 1 {
		t.Errorf("flows left: %s", left)
	}
	if left := m.ip(t, "link"); strings.Contains(left, aliasPrefix) {
		t.Errorf("links left: %s", left)
	}
	m.tool(t, "ovs-vsctl", "del-port", "theirs")
	m.tool(t, "ovs-ofctl", "del-flows", bridge, "cookie=0/-1")
	host.Plane.Invalidate()
	rig.Prune()
	if left := m.tool(t, "ovs-ofctl", "-O", vswitch.OpenFlow15, "dump-groups", bridge); !strings.Contains(left, "group_id=7,") {
		t.Errorf("another's group is gone: %s", left)
	}
	m.tool(t, "ovs-ofctl", "-O", vswitch.OpenFlow15, "del-groups", bridge)
	host.Plane.Invalidate()
	rig.Prune()
	rig.Prune()
	if left := m.tool(t, "ovs-vsctl", "list-br"); left != "brphy\n" {
		t.Errorf("bridges left: %q", left)
	}
}

func TestABridgeOfOthersStaysAsItIs(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	network, host := rig.Network(1), rig.Hosts[0]
	m := site.machine(t, host)
	m.tool(t, "ovs-vsctl", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev", "fail_mode=standalone")
	a, b := rig.Start(host, network, 2), rig.Start(rig.Hosts[1], network, 3)
	if !pings(t, a, v4(b)) {
		t.Error("containers do not talk")
	}
	rig.Forget(a.Endpoint)
	rig.Apply()
	rig.Prune()
	if mode := m.tool(t, "ovs-vsctl", "get-fail-mode", bridge); mode != "standalone\n" {
		t.Errorf("the bridge has fail mode %q", mode)
	}
	if left := m.flows(t); len(left) != 0 {
		t.Errorf("flows left: %v", left)
	}
	if left := m.tool(t, "ovs-vsctl", "list-ports", bridge); left != "" {
		t.Errorf("ports left: %q", left)
	}
}

func TestCheckSaysWhatIsMissing(t *testing.T) {
	site := newSite(t)
	site.datapath = "netdev" // which has the more to ask for
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	m, plane := site.machine(t, host), host.Plane
	check := func(network fabric.Network, want string) {
		t.Helper()
		err := plane.Check(t.Context(), network)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	check(network, "")
	check(fabric.Network{ID: "foo", Tunnel: "stt"}, `ovs: tunnel "stt" is not known; known are vxlan, geneve, gre`)
	m.ip(t, "addr", "del", "10.99.0.1/24", "dev", "brphy")
	check(network, "no link of this host has the VTEP address 10.99.0.1")
	m.ip(t, "addr", "add", "10.99.0.1/24", "dev", "eth0")
	check(network, "put eth0 into one and move the address 10.99.0.1 to the bridge")
	m.stop("ovs-vswitchd", syscall.SIGKILL)
	check(network, "Open vSwitch is not running on this host: ovs-vswitchd does not answer")
	m.stop("ovsdb-server", syscall.SIGTERM)
	check(network, "Open vSwitch is not running on this host: no "+m.runDir+"/db.sock: install openvswitch-switch and start it")
	rig.Prune() // there is nothing to remove, and that is no error
	if _, err := plane.Apply(t.Context(), fabric.Segment{Network: network}); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("Apply without a switch: %v", err)
	}
}
