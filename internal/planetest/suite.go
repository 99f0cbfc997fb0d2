// Package planetest is the suite that every data plane passes: hosts as network
// namespaces on a switch, containers as namespaces that take a plane's links,
// and real packets between them.
//
// The path of a test: a plane's own test calls [Run] with a [Config]. Each
// subtest makes a [Rig], records networks and endpoints in it, has every host
// apply what [fabric.Plan] makes of them, and looks at what arrives.
package planetest

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

// Config is one data plane and its surroundings.
type Config struct {
	Mode fabric.Mode
	// VTEP is the address before the first host's.
	VTEP netip.Addr
	// New makes a host's plane, before any test and at each restart.
	New func(t *testing.T, host *Host) Plane
	// Network gives what is the mode's own of the network of that number, from 1.
	Network func(number int) fabric.Network
	// Text is what the kernel or the switch says of the segment; no counters.
	Text func(t *testing.T, host *Host, segment fabric.Segment) string
	// Cut removes by hand something that traffic needs.
	Cut func(t *testing.T, host *Host, segment fabric.Segment)
	// Responds says that the plane answers ARP and ND, so that questions for
	// known endpoints reach no other host.
	Responds bool
	// OneNetwork says that the hosts' wire is the network: two networks with the
	// same subnets can't be kept apart, and a MAC is where a frame came from.
	OneNetwork bool
	// TunnelPort is the UDP port that VXLAN is sent to; 0 where nothing is.
	TunnelPort uint16
	// Routed says that hosts exchange packets and no frames: what is broadcast stays on
	// a host, and networks share the hosts' routes, so that each has subnets of its own.
	Routed bool
	// Space opens where the segment's objects are, and no others; the suite closes it.
	// nil: they are among others'.
	Space func(t *testing.T, host *Host, segment fabric.Segment) (Space, error)
	// Encrypted says that the networks are, so that the hosts have keys.
	Encrypted bool
	// Filters says that internal/portfilter judges what the plane's containers send.
	Filters bool
	// MACs counts the entries of the segment's MAC tables; nil where there are none.
	MACs func(t *testing.T, host *Host, segment fabric.Segment) int
}

// Run runs the whole suite.
func Run(t *testing.T, config Config) {
	tests := map[string]func(*testing.T, Config){
		"containers reach each other":           reach,
		"broadcast and multicast reach all":     multicast,
		"questions are answered on the host":    respond,
		"equal subnets are kept apart":          apart,
		"what was cut comes back":               cut,
		"what was cut is noticed":               heal,
		"what was cut is named":                 inspect,
		"each object comes back":                harmEach,
		"a leaving endpoint takes all with it":  leave,
		"plugging twice gives the same link":    plugTwice,
		"an endpoint lives while it has a link": live,
		"pruning takes what is not kept":        prune,
		"a restart is not noticed":              restart,
		"a MAC belongs to its endpoint":         impersonate,
		"a flood of MACs fills no table":        manyMACs,
		"strangers do not get in":               strangers,
	}
	if config.Filters {
		maps.Copy(tests, map[string]func(*testing.T, Config){
			"a container sends as itself alone":  spoof,
			"an address that floats moves":       float,
			"spoofing is allowed where it was":   unguarded,
			"a storm of broadcasts is held down": storm,
		})
	}
	if config.Encrypted {
		tests["a key changes"] = rekey
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, config)
		})
	}
}

func reach(t *testing.T, config Config) {
	rig := NewRig(t, config, 3)
	network := rig.Network(1)
	mustReach(t,
		rig.Start(rig.Hosts[0], network, 2), rig.Start(rig.Hosts[0], network, 3),
		rig.Start(rig.Hosts[1], network, 4), rig.Start(rig.Hosts[2], network, 5))
}

func apart(t *testing.T, config Config) {
	if config.OneNetwork || config.Routed {
		t.Skip("networks of this mode share one wire, or the host's routes: none has the subnet of another")
	}
	rig := NewRig(t, config, 2)
	first, second := rig.Network(1), rig.Network(2)
	a1, b1 := rig.Start(rig.Hosts[0], first, 2), rig.Start(rig.Hosts[1], first, 3)
	a2, b2 := rig.Start(rig.Hosts[0], second, 2), rig.Start(rig.Hosts[1], second, 4)
	mustReach(t, a1, b1)
	mustReach(t, a2, b2)
	if a1.Ping(t, b2.addrs()[0]) || a2.Ping(t, b1.addrs()[0]) {
		t.Error("a container reaches one of the other network")
	}
}

func cut(t *testing.T, config Config) {
	rig, network, a, b := Two(t, config)
	mustReach(t, a, b)
	before := rig.text()
	if repaired := rig.Apply(); repaired != 0 {
		t.Errorf("with nothing cut, %d entries were repaired", repaired)
	}
	config.Cut(t, rig.Hosts[0], rig.Segment(rig.Hosts[0], network))
	if before == rig.text() {
		t.Fatal("the test cut nothing")
	}
	for _, host := range rig.Hosts {
		host.Plane.Invalidate()
	}
	if repaired := rig.Apply(); repaired == 0 {
		t.Error("nothing was counted as repaired")
	}
	if diff := cmp.Diff(before, rig.text()); diff != "" {
		t.Errorf("the kernel is not what it was (-before +after):\n%s", diff)
	}
	mustReach(t, a, b)
}

func leave(t *testing.T, config Config) {
	rig, network, a, _ := Two(t, config)
	before := rig.text()
	b := rig.Start(rig.Hosts[1], network, 4)
	mustReach(t, a, b)
	rig.Forget(b.Endpoint)
	rig.Apply()
	if diff := cmp.Diff(before, rig.text()); diff != "" {
		t.Errorf("something of the endpoint is left (-before +after):\n%s", diff)
	}
	if _, err := b.Handle.Link("eth0"); err == nil {
		t.Error("the container still has its link")
	}
	if a.Ping(t, b.addrs()[0]) {
		t.Error("the endpoint still answers")
	}
}

func plugTwice(t *testing.T, config Config) {
	rig := NewRig(t, config, 1)
	host, network := rig.Hosts[0], rig.Network(1)
	endpoint := rig.Record(host, network, 2)
	rig.Apply()
	first, err := host.handle.Link(rig.Plug(host, network, endpoint))
	must(t, err)
	again, err := host.handle.Link(rig.Plug(host, network, endpoint))
	must(t, err)
	if first.Attrs().Index != again.Attrs().Index {
		t.Errorf("the link was %d and is %d", first.Attrs().Index, again.Attrs().Index)
	}
	if got := again.Attrs(); got.HardwareAddr.String() != endpoint.MAC.String() || got.MTU != rig.Segment(host, network).MTU {
		t.Errorf("the link has MAC %s and MTU %d", got.HardwareAddr, got.MTU)
	}
}

func live(t *testing.T, config Config) {
	rig := NewRig(t, config, 1)
	host, network := rig.Hosts[0], rig.Network(1)
	endpoint := rig.Record(host, network, 2)
	want := func(alive bool, when string) {
		t.Helper()
		got, err := host.Plane.Alive(t.Context(), rig.Segment(host, network))
		must(t, err)
		if got[endpoint.ID] != alive {
			t.Errorf("%s: alive is %t", when, got[endpoint.ID])
		}
	}
	want(false, "before anything is made")
	rig.Apply()
	want(false, "before its link is made")
	container := &Container{Endpoint: endpoint, Host: host, Link: rig.Plug(host, network, endpoint), Handle: newNamespace(t)}
	want(false, "before Docker took its link")
	container.take(t)
	want(true, "in its container")
	rig.Restart(host)
	want(true, "after a restart")
	container.giveBack(t)
	want(false, "after Docker gave its link back")
	container.take(t)
	link, err := container.Handle.Link("eth0")
	must(t, err)
	must(t, container.LinkDel(link))
	want(false, "after its container died")
}

func prune(t *testing.T, config Config) {
	rig := NewRig(t, config, 2)
	first := rig.Network(1)
	a, b := rig.Start(rig.Hosts[0], first, 2), rig.Start(rig.Hosts[1], first, 3)
	mustReach(t, a, b) // then the kernel has told of their carriers
	before := rig.text()
	second := rig.Network(2)
	c, d := rig.Start(rig.Hosts[0], second, 4), rig.Start(rig.Hosts[1], second, 5)
	mustReach(t, c, d)
	rig.Restart(rig.Hosts[0]) // one that has made nothing itself must know it all the same
	delete(rig.state.Networks, second.ID)
	rig.Prune()
	if diff := cmp.Diff(before, rig.text()); diff != "" {
		t.Errorf("pruning changed what is kept (-before +after):\n%s", diff)
	}
	for _, gone := range []*Container{c, d} {
		if _, err := gone.Handle.Link("eth0"); err == nil {
			t.Errorf("%s still has its link", gone.Endpoint.ID)
		}
	}
	mustReach(t, a, b)
	second = rig.Network(2)
	mustReach(t, rig.Start(rig.Hosts[0], second, 4), rig.Start(rig.Hosts[1], second, 5))
}

func restart(t *testing.T, config Config) {
	rig, _, a, b := Two(t, config)
	mustReach(t, a, b)
	before := rig.text()
	ping, out := start(t, a.NS(), "ping", "-n", "-q", "-c", "300", "-i", "0.005", "-W", "2", b.addrs()[0].String())
	for range 5 {
		for _, host := range rig.Hosts {
			rig.Restart(host)
			rig.Prune()
		}
	}
	if repaired := rig.Apply(); repaired != 0 {
		t.Errorf("the restart repaired %d entries", repaired)
	}
	if err := ping.Wait(); err != nil || !strings.Contains(out.String(), " 0% packet loss") {
		t.Errorf("packets were lost: %v\n%s", err, out)
	}
	if diff := cmp.Diff(before, rig.text()); diff != "" {
		t.Errorf("the restart changed something (-before +after):\n%s", diff)
	}
}

// The subnets are the same on all networks.
//
//nolint:gochecknoglobals // constants, if netip had any
var (
	subnet4 = netip.MustParsePrefix("172.31.7.0/24")
	subnet6 = netip.MustParsePrefix("fd31:7::/64")

	gateway4 = netip.MustParseAddr("172.31.7.1")
	gateway6 = netip.MustParseAddr("fd31:7::1")
)
