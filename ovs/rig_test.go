package ovs

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lan is some hosts on one switch, each with its own Open vSwitch.
type lan struct {
	sw    string // namespace of the switch
	hosts []*host
}

// host is a network namespace whose NIC is in the bridge brphy, which has its
// address: the userspace datapath sends tunnels through bridges only.
type host struct {
	fabric.Host
	ns      string
	runDir  string
	plane   *Plane
	daemons map[string]*exec.Cmd
}

// container is a network namespace that took a sandbox link as eth0.
type container struct {
	fabric.Endpoint
	ns string
}

const daemonSchema = "/usr/share/openvswitch/vswitch.ovsschema"

func newLAN(t *testing.T, hosts int) *lan {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ip", "ping", "tcpdump"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not on the PATH", tool)
		}
	}
	if _, err := os.Stat(daemonSchema); err != nil {
		t.Skip(err)
	}
	l := &lan{sw: newNamespace(t, "sw")}
	run(t, "ip", "-n", l.sw, "link", "add", "sw", "type", "bridge")
	run(t, "ip", "-n", l.sw, "link", "set", "sw", "up")
	for n := range hosts {
		l.hosts = append(l.hosts, l.newHost(t, n+1))
	}
	return l
}

func (l *lan) newHost(t *testing.T, n int) *host {
	h := &host{ns: newNamespace(t, fmt.Sprint("h", n)), runDir: t.TempDir(), daemons: map[string]*exec.Cmd{}}
	h.Host = fabric.Host{Name: fmt.Sprint("h", n), VTEP: netip.AddrFrom4([4]byte{10, 99, 0, byte(n)}), MTU: 1500}
	port := fmt.Sprint("p", n)
	run(t, "ip", "-n", l.sw, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.ns)
	run(t, "ip", "-n", l.sw, "link", "set", port, "master", "sw", "up")
	run(t, "ip", "-n", h.ns, "link", "set", "eth0", "up")
	run(t, "ovsdb-tool", "create", filepath.Join(h.runDir, "conf.db"), daemonSchema)
	h.start(t, "ovsdb-server", "--remote=punix:"+filepath.Join(h.runDir, "db.sock"), filepath.Join(h.runDir, "conf.db"))
	until(t, "ovsdb-server answers", func() bool { return answers(filepath.Join(h.runDir, "db.sock")) })
	h.vsctl(t, "--no-wait", "init")
	h.startSwitch(t)
	nic := strings.Fields(run(t, "ip", "-n", h.ns, "-br", "link", "show", "eth0"))[2]
	h.vsctl(t, "add-br", "brphy", "--", "set", "Bridge", "brphy", "datapath_type=netdev",
		"other_config:hwaddr="+quote(nic), "--", "add-port", "brphy", "eth0")
	run(t, "ip", "-n", h.ns, "addr", "add", h.VTEP.String()+"/24", "dev", "brphy")
	run(t, "ip", "-n", h.ns, "link", "set", "brphy", "up")
	h.plane = h.newPlane(t)
	return h
}

func (h *host) newPlane(t *testing.T) *Plane {
	t.Helper()
	ns, err := netns.GetFromName(h.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	log := logrus.New()
	log.SetOutput(t.Output())
	plane, err := New(Config{VTEP: h.VTEP, RunDir: h.runDir, HostNS: ns, Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close() })
	return plane
}

func (h *host) startSwitch(t *testing.T) {
	t.Helper()
	h.start(t, "ovs-vswitchd", "unix:"+filepath.Join(h.runDir, "db.sock"))
	until(t, "ovs-vswitchd answers", func() bool { return h.vswitch().missing() == nil })
}

func (h *host) vswitch() vswitch {
	return vswitch{exec: execIn(h.runDir), runDir: h.runDir, bridge: "causeway"}
}

// start runs a daemon in the host until the test ends.
func (h *host) start(t *testing.T, daemon string, args ...string) {
	t.Helper()
	args = append([]string{"netns", "exec", h.ns, daemon, "--pidfile", "--log-file=" + filepath.Join(h.runDir, daemon+".log"), "-vconsole:off"}, args...)
	cmd := exec.Command("ip", args...) // which becomes the daemon
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+h.runDir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.daemons[daemon] = cmd
	t.Cleanup(func() { h.stop(daemon, syscall.SIGTERM) })
}

func (h *host) stop(daemon string, signal os.Signal) {
	cmd, running := h.daemons[daemon]
	if !running {
		return
	}
	delete(h.daemons, daemon)
	_ = cmd.Process.Signal(signal)
	_ = cmd.Wait()
}

func (h *host) vsctl(t *testing.T, args ...string) string {
	t.Helper()
	return h.tool(t, "ovs-vsctl", args...)
}

func (h *host) tool(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := execIn(h.runDir)(t.Context(), nil, tool, args...)
	if err != nil {
		t.Fatalf("%s %v: %v", tool, args, err)
	}
	return string(out)
}

// flows gives what the switch has of ours, as people would read it.
func (h *host) flows(t *testing.T) []flow {
	t.Helper()
	flows, err := h.vswitch().dumpFlows(t.Context(), cookieOurs, cookieMask, "")
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

// newNamespace makes a named network namespace that goes with the test.
func newNamespace(t *testing.T, name string) string {
	t.Helper()
	name = fmt.Sprintf("cwovs%d-%s-%s", os.Getpid(), fabric.ShortHash(t.Name())[:4], name)
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return name
}

func run(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, err := exec.Command(command, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", command, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out)
}

// until waits for a condition, and fails the test after ten seconds.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// world is the cluster's records: what the store would hold.
type world struct {
	*lan
	state      fabric.State
	containers map[string]*container // by endpoint ID
}

func newWorld(t *testing.T, hosts int, networks ...fabric.Network) *world {
	t.Helper()
	w := &world{lan: newLAN(t, hosts), containers: map[string]*container{}, state: fabric.State{
		Hosts: map[string]fabric.Host{}, Networks: map[string]fabric.Network{},
		Endpoints: map[string]map[string]fabric.Endpoint{}, Attached: map[string]bool{},
	}}
	for _, h := range w.hosts {
		w.state.Hosts[h.Name] = h.Host
	}
	for _, network := range networks {
		w.state.Networks[network.ID] = network
		w.state.Endpoints[network.ID] = map[string]fabric.Endpoint{}
	}
	return w
}

// apply has every host realise the records; it gives what was mended.
func (w *world) apply(t *testing.T) int {
	t.Helper()
	mended := 0
	for _, h := range w.hosts {
		mended += w.applyOn(t, h)
	}
	return mended
}

func (w *world) applyOn(t *testing.T, h *host) int {
	t.Helper()
	mended := 0
	for _, segment := range fabric.Plan(w.state, h.Name) {
		n, err := h.plane.Apply(t.Context(), segment)
		if err != nil {
			t.Fatal(err)
		}
		mended += n
	}
	return mended
}

// record writes an endpoint with the n-th addresses of network.
func (w *world) record(h *host, network string, n int) fabric.Endpoint {
	e := fabric.Endpoint{ID: network + "-e" + strconv.Itoa(n), Network: network, Host: h.Name, Name: "c" + strconv.Itoa(n), Addrs: []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(n)}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: byte(n)}), 64),
	}}
	e.MAC = fabric.DeriveMAC(network, e.Addrs[0].Addr())
	w.state.Endpoints[network][e.ID] = e
	return e
}

// run starts a container on h: its record, its link, and what Docker does with it.
func (w *world) run(t *testing.T, h *host, network string, n int) *container {
	t.Helper()
	e := w.record(h, network, n)
	w.apply(t)
	c := &container{Endpoint: e, ns: newNamespace(t, e.ID)}
	for _, segment := range fabric.Plan(w.state, h.Name) {
		if segment.Network.ID != network {
			continue
		}
		link, err := h.plane.Plug(t.Context(), segment, e)
		if err != nil {
			t.Fatal(err)
		}
		run(t, "ip", "-n", h.ns, "link", "set", link, "netns", c.ns, "name", "eth0")
	}
	for _, prefix := range e.Addrs {
		args := []string{"-n", c.ns, "addr", "add", prefix.String(), "dev", "eth0"}
		if prefix.Addr().Is6() {
			args = append(args, "nodad")
		}
		run(t, "ip", args...)
	}
	run(t, "ip", "-n", c.ns, "link", "set", "eth0", "up")
	run(t, "ip", "-n", c.ns, "route", "add", "default", "dev", "eth0")
	w.containers[e.ID] = c
	return c
}

// reaches says whether one of a few pings of c to addr is answered. The first
// may not be: the userspace datapath drops it while it asks for the VTEP's MAC.
func (c *container) reaches(addr netip.Addr, args ...string) bool {
	args = append([]string{"netns", "exec", c.ns, "ping", "-n", "-c", "1", "-i", "0.1", "-w", "2"}, args...)
	return exec.Command("ip", append(args, addr.String())...).Run() == nil
}

func (c *container) v4() netip.Addr { return c.Addrs[0].Addr() }
func (c *container) v6() netip.Addr { return c.Addrs[1].Addr() }
