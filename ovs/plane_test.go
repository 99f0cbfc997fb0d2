package ovs

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

func vxlanNet(id string, vni uint32) fabric.Network {
	return fabric.Network{ID: id, Name: id, Mode: fabric.ModeOVS, VNI: vni}
}

func TestContainersOfTwoHostsTalk(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	a, b := w.run(t, w.hosts[0], "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	c := w.run(t, w.hosts[0], "foo", 3)
	w.apply(t)
	for _, from := range []*container{a, b, c} {
		for _, at := range []*container{a, b, c} {
			if !from.reaches(at.v4()) || !from.reaches(at.v6()) {
				t.Errorf("%s does not reach %s", from.ID, at.ID)
			}
		}
	}
	if !a.reaches(addresses(b.Endpoint)[2], "-I", "eth0") {
		t.Error("link-local addresses do not talk")
	}
	// The switch must say what we say, word for word, or nothing would ever be as it should.
	segment := fabric.Plan(w.state, "h1")[0]
	want := append(staticFlows(), w.hosts[0].plane.programme(segment).flows()...)
	if diff := cmp.Diff(change{}, changeOf(w.hosts[0].flows(t), want), cmp.AllowUnexported(change{}, flow{})); diff != "" {
		t.Error(diff)
	}
}

func TestTCPCrossesTheTunnel(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	a, b := w.run(t, w.hosts[0], "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	c := w.run(t, w.hosts[0], "foo", 3)
	for _, pair := range [][2]*container{{a, b}, {b, a}, {a, c}} {
		for _, addr := range pair[1].Addrs {
			if n := transfer(t, pair[0], pair[1], addr.Addr()); n != 1<<20 {
				t.Errorf("%s to %s: %d bytes of %d arrived", pair[0].ID, addr.Addr(), n, 1<<20)
			}
		}
	}
}

func TestEachTunnelTypeCarriesFullFrames(t *testing.T) {
	for _, kind := range []string{"vxlan", "geneve", "gre"} {
		t.Run(kind, func(t *testing.T) {
			network := vxlanNet("foo", 0x800005)
			network.Tunnel = kind
			w := newWorld(t, 2, network)
			a, b := w.run(t, w.hosts[0], "foo", 1), w.run(t, w.hosts[1], "foo", 2)
			mtu := 1500 - fabric.Overhead(network, w.hosts[0].VTEP)
			if link := run(t, "ip", "-n", a.ns, "link", "show", "eth0"); !strings.Contains(link, fmt.Sprint("mtu ", mtu, " ")) {
				t.Errorf("want MTU %d: %s", mtu, link)
			}
			const headers = 28 // IPv4 and ICMP
			if !a.reaches(b.v4(), "-M", "do", "-s", fmt.Sprint(mtu-headers)) {
				t.Error("a frame of full size does not arrive")
			}
			if n := transfer(t, b, a, a.v6()); n != 1<<20 {
				t.Errorf("TCP: %d bytes of %d arrived", n, 1<<20)
			}
		})
	}
}

func TestBroadcastAndMulticastReachEachOnce(t *testing.T) {
	w := newWorld(t, 3, vxlanNet("foo", 0x800001))
	a := w.run(t, w.hosts[0], "foo", 1)
	others := []*container{w.run(t, w.hosts[0], "foo", 2), w.run(t, w.hosts[1], "foo", 3), w.run(t, w.hosts[2], "foo", 4)}
	for _, c := range others {
		a.reaches(c.v4()) // the VTEPs know each other's MAC from here on
	}
	for to, group := range map[string]string{"192.168.1.255": "", "224.0.0.251": "224.0.0.251", "ff02::fb": "ff02::fb"} {
		t.Run(to, func(t *testing.T) {
			conns := make([]net.PacketConn, len(others))
			for i, c := range others {
				conns[i] = c.hear(t, group)
			}
			a.say(t, to, "hello")
			a.say(t, to, "end")
			for i, c := range others {
				if diff := cmp.Diff([]string{"hello"}, heard(t, conns[i], "end")); diff != "" {
					t.Errorf("%s: %s", c.ID, diff)
				}
			}
		})
	}
}

func TestEqualSubnetsStayApart(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001), vxlanNet("bar", 0x800002))
	a, b := w.run(t, w.hosts[0], "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	c := w.run(t, w.hosts[1], "bar", 1) // a's address
	d := w.run(t, w.hosts[0], "bar", 3)
	if !a.reaches(b.v4()) || !c.reaches(d.v4()) || !d.reaches(c.v6()) {
		t.Error("containers of one network do not talk")
	}
	if a.reaches(d.v4()) || b.reaches(d.v4()) || c.reaches(b.v4()) {
		t.Error("containers of two networks talk")
	}
}

func TestSpoofingReachesNobody(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	a, b := w.run(t, w.hosts[0], "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	c := w.run(t, w.hosts[0], "foo", 3)
	if !a.reaches(b.v4()) || !a.reaches(c.v4()) {
		t.Fatal("containers do not talk")
	}
	static := func(to *container) {
		run(t, "ip", "-n", a.ns, "neigh", "replace", to.v4().String(), "lladdr", to.MAC.String(), "dev", "eth0")
		run(t, "ip", "-n", a.ns, "neigh", "replace", to.v6().String(), "lladdr", to.MAC.String(), "dev", "eth0")
	}
	static(b)
	static(c)
	for name, spoof := range map[string]struct{ do, undo []string }{
		"IPv4 address": {[]string{"addr", "add", "192.168.1.9/24", "dev", "eth0"}, []string{"addr", "del", "192.168.1.9/24", "dev", "eth0"}},
		"IPv6 address": {[]string{"addr", "add", "fd01::9/64", "dev", "eth0", "nodad"}, []string{"addr", "del", "fd01::9/64", "dev", "eth0"}},
		"MAC":          {[]string{"link", "set", "eth0", "address", "02:00:00:00:00:09"}, []string{"link", "set", "eth0", "address", a.MAC.String()}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "ip", append([]string{"-n", a.ns}, spoof.do...)...)
			defer run(t, "ip", append([]string{"-n", a.ns}, spoof.undo...)...)
			for _, at := range []*container{b, c} {
				before := received(t, at)
				switch name {
				case "IPv4 address":
					a.reaches(at.v4(), "-I", "192.168.1.9")
				case "IPv6 address":
					a.reaches(at.v6(), "-I", "fd01::9")
				default:
					static(at) // the change of MAC may have taken it away
					a.reaches(at.v4())
				}
				if after := received(t, at); after != before {
					t.Errorf("%s got %d echo requests", at.ID, after-before)
				}
			}
		})
	}
	if _, err := exec.LookPath("arping"); err == nil {
		before := run(t, "ip", "-n", c.ns, "neigh")
		_ = exec.Command("ip", "netns", "exec", a.ns, "arping", "-c", "2", "-w", "2", "-U", "-I", "eth0", b.v4().String()).Run()
		if after := run(t, "ip", "-n", c.ns, "neigh"); strings.Contains(after, b.v4().String()+" dev eth0 lladdr "+a.MAC.String()) {
			t.Errorf("an ARP announcement of another's address was believed; before: %s after: %s", before, after)
		}
	}
	run(t, "ip", "-n", a.ns, "neigh", "flush", "all")
	if !a.reaches(b.v4()) {
		t.Error("with its own address a container talks no more")
	}
}

// received counts the echo requests, IPv4 and IPv6, that c ever got.
func received(t *testing.T, c *container) int {
	t.Helper()
	total := 0
	for _, name := range []string{"IcmpInEchos", "Icmp6InEchos"} {
		for line := range strings.Lines(run(t, "ip", "netns", "exec", c.ns, "nstat", "-asz", name)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
				var n int
				if _, err := fmt.Sscan(fields[1], &n); err != nil {
					t.Fatal(err)
				}
				total += n
			}
		}
	}
	return total
}

// recovery measures how long traffic from a to b is away after harm, while the
// planes are driven as the loop does.
func recovery(t *testing.T, w *world, a, b *container, harm func()) time.Duration {
	t.Helper()
	harm()
	start := time.Now()
	pinged := make(chan bool)
	go func() {
		ping := exec.Command("ip", "netns", "exec", a.ns, "ping", "-n", "-c", "1", "-i", "0.1", "-w", "10", b.v4().String())
		pinged <- ping.Run() == nil
	}()
	tick := time.NewTicker(2 * time.Second) // as driver.Timing.Retry
	defer tick.Stop()
	for {
		select {
		case ok := <-pinged:
			if !ok {
				t.Fatal("traffic did not come back")
			}
			return time.Since(start)
		case <-tick.C:
		}
		for _, h := range w.hosts {
			if !h.plane.Stale(t.Context()) {
				continue
			}
			h.plane.Distrust()
			for _, segment := range fabric.Plan(w.state, h.Name) {
				if _, err := h.plane.Apply(t.Context(), segment); err != nil {
					t.Log(err)
				}
			}
		}
	}
}

func TestTrafficComesBack(t *testing.T) {
	const bar = 5 * time.Second
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	h := w.hosts[0]
	a, b := w.run(t, h, "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	if !a.reaches(b.v4()) {
		t.Fatal("containers do not talk")
	}
	flows := h.flows(t)
	for name, harm := range map[string]func(){
		"ovs-vswitchd is killed and starts again": func() { h.stop("ovs-vswitchd", syscall.SIGKILL); h.startSwitch(t) },
		"the bridge is deleted":                   func() { h.vsctl(t, "del-br", "causeway") },
	} {
		t.Run(name, func(t *testing.T) {
			took := recovery(t, w, a, b, harm)
			t.Logf("traffic is back after %s", took.Round(10*time.Millisecond))
			if took > bar {
				t.Errorf("traffic was away for %s, more than %s", took, bar)
			}
			if diff := cmp.Diff(change{}, changeOf(h.flows(t), flows), cmp.AllowUnexported(change{}, flow{})); diff != "" {
				t.Error(diff)
			}
			if h.plane.Stale(t.Context()) {
				t.Error("the plane is stale still")
			}
		})
	}
}

func TestWhatIsLostIsMendedAndCounted(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	h := w.hosts[0]
	a, b := w.run(t, h, "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	w.apply(t)
	before := h.flows(t)
	h.tool(t, "ovs-ofctl", "del-flows", "causeway", "table=40")
	h.tool(t, "ovs-ofctl", "add-flow", "causeway", "table=30,priority=100,reg0=0x800001,actions=drop")
	h.tool(t, "ovs-ofctl", "add-flow", "causeway", fmt.Sprintf("cookie=%#x,table=30,priority=99,reg0=0x800001,actions=drop", uint64(cookieOurs|0x800001)))
	h.vsctl(t, "set", "Interface", "cwvxlan", "options:dst_port=4799")
	if mended := w.applyOn(t, h); mended != 0 {
		t.Errorf("without distrust %d entries were mended", mended)
	}
	h.plane.Distrust()
	if mended := w.applyOn(t, h); mended != 2 {
		t.Errorf("mended %d entries, want the flow and the tunnel port", mended)
	}
	if diff := cmp.Diff(change{}, changeOf(h.flows(t), before), cmp.AllowUnexported(change{}, flow{})); diff != "" {
		t.Error(diff)
	}
	h.plane.Distrust()
	if mended := w.applyOn(t, h); mended != 0 {
		t.Errorf("%d entries were mended of what is right", mended)
	}
	if !strings.Contains(h.tool(t, "ovs-ofctl", "dump-flows", "causeway", "cookie=0/-1"), "priority=100,reg0=0x800001 actions=drop") {
		t.Error("another's flow was removed")
	}
	h.tool(t, "ovs-ofctl", "del-flows", "causeway", "cookie=0/-1")
	if !a.reaches(b.v4()) {
		t.Error("containers do not talk")
	}
}

func TestANewPlaneTakesOverWithoutAWrite(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	h := w.hosts[0]
	w.run(t, h, "foo", 1)
	w.run(t, w.hosts[1], "foo", 2)
	w.apply(t)
	h.plane = h.newPlane(t)
	var commands []string
	real := h.plane.vswitch.exec
	h.plane.vswitch.exec = recording(real, &commands)
	w.applyOn(t, h)
	for _, command := range commands {
		if strings.Contains(command, "add-") || strings.Contains(command, "del-") || strings.Contains(command, " set ") {
			t.Errorf("restarted, the plane ran %s", command)
		}
	}
	if err := h.plane.Prune(t.Context(), fabric.Plan(w.state, h.Name)); err != nil {
		t.Error(err)
	}
	if len(h.flows(t)) == 0 {
		t.Error("Prune removed what is kept")
	}
}

func TestPortsTellWhoseTheyAre(t *testing.T) {
	w := newWorld(t, 1, vxlanNet("foo", 0x800001))
	h := w.hosts[0]
	a := w.run(t, h, "foo", 1)
	rows, err := h.vswitch().interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(row interfaceRow) bool { return row.ExternalIDs[idEndpoint] == a.ID })
	if i < 0 {
		t.Fatalf("no interface of endpoint %s: %+v", a.ID, rows)
	}
	want := map[string]string{
		idNetwork: "foo", idName: "foo", idEndpoint: "foo-e1", idContainer: "c1", idIface: "foo-e1", idMAC: a.MAC.String(),
	}
	if diff := cmp.Diff(want, rows[i].ExternalIDs); diff != "" {
		t.Error(diff)
	}
}

func TestEndpointsComeAndGo(t *testing.T) {
	w := newWorld(t, 1, vxlanNet("foo", 0x800001), vxlanNet("bar", 0x800002))
	h := w.hosts[0]
	a, b := w.run(t, h, "foo", 1), w.run(t, h, "foo", 2)
	segment := fabric.Plan(w.state, h.Name)[0]
	alive := func() map[string]bool {
		t.Helper()
		alive, err := h.plane.Alive(t.Context(), segment)
		if err != nil {
			t.Fatal(err)
		}
		return alive
	}
	if diff := cmp.Diff(map[string]bool{a.ID: true, b.ID: true}, alive()); diff != "" {
		t.Error(diff)
	}
	run(t, "ip", "-n", a.ns, "link", "del", "eth0") // as when a container is killed
	if diff := cmp.Diff(map[string]bool{a.ID: false, b.ID: true}, alive()); diff != "" {
		t.Error(diff)
	}
	w.apply(t) // an endpoint without a link does not keep the others from theirs
	c := w.run(t, h, "foo", 3)
	if !b.reaches(c.v4()) {
		t.Error("containers do not talk")
	}

	delete(w.state.Endpoints["foo"], a.ID)
	delete(w.state.Endpoints["foo"], b.ID)
	w.apply(t)
	if ports := strings.Fields(h.vsctl(t, "list-ports", "causeway")); len(ports) != 2 {
		t.Errorf("ports are %v, want the tunnel and one container", ports)
	}
	if links := run(t, "ip", "-n", b.ns, "link"); strings.Contains(links, "eth0") {
		t.Errorf("the pair of a dead endpoint is there: %s", links)
	}
}

func TestPruneLeavesNothingButOthers(t *testing.T) {
	w := newWorld(t, 1, vxlanNet("foo", 0x800001))
	h := w.hosts[0]
	prune := func() {
		t.Helper()
		if err := h.plane.Prune(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, h, "foo", 1)
	h.vsctl(t, "add-port", "causeway", "theirs", "--", "set", "Interface", "theirs", "type=internal")
	h.tool(t, "ovs-ofctl", "add-flow", "causeway", "in_port=theirs,actions=drop")
	h.plane.Distrust()
	prune()
	if left := h.vsctl(t, "list-ports", "causeway"); left != "theirs\n" {
		t.Errorf("ports left: %q", left)
	}
	if left := h.tool(t, "ovs-ofctl", "--no-stats", "dump-flows", "causeway"); strings.Count(left, "actions=") != 1 {
		t.Errorf("flows left: %s", left)
	}
	if left := run(t, "ip", "-n", h.ns, "link"); strings.Contains(left, aliasPrefix) {
		t.Errorf("links left: %s", left)
	}
	h.vsctl(t, "del-port", "theirs")
	h.tool(t, "ovs-ofctl", "del-flows", "causeway", "cookie=0/-1")
	h.plane.Distrust()
	prune()
	prune()
	if left := h.vsctl(t, "list-br"); left != "brphy\n" {
		t.Errorf("bridges left: %q", left)
	}
}

func TestCheckSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t, 1)
	h := w.hosts[0]
	check := func(network fabric.Network, want string) {
		t.Helper()
		err := h.plane.Check(t.Context(), network)
		switch {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %s", err, want)
		}
	}
	check(vxlanNet("foo", 1), "")
	check(fabric.Network{ID: "foo", Tunnel: "stt"}, `ovs: tunnel "stt" is not known; known are vxlan, geneve, gre`)
	run(t, "ip", "-n", h.ns, "addr", "del", "10.99.0.1/24", "dev", "brphy")
	check(vxlanNet("foo", 1), "no link of this host has the VTEP address 10.99.0.1")
	run(t, "ip", "-n", h.ns, "addr", "add", "10.99.0.1/24", "dev", "eth0")
	check(vxlanNet("foo", 1), "put eth0 into one and move the address 10.99.0.1 to the bridge")
	h.stop("ovs-vswitchd", syscall.SIGKILL)
	check(vxlanNet("foo", 1), "Open vSwitch is not running on this host: ovs-vswitchd does not answer")
	h.stop("ovsdb-server", syscall.SIGTERM)
	check(vxlanNet("foo", 1), "Open vSwitch is not running on this host: no "+h.runDir+"/db.sock: install openvswitch-switch and start it")
	if err := h.plane.Prune(t.Context(), nil); err != nil {
		t.Errorf("Prune without a switch: %v", err)
	}
	if _, err := h.plane.Apply(t.Context(), fabric.Segment{Network: vxlanNet("foo", 1)}); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("Apply without a switch: %v", err)
	}
}
