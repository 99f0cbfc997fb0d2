package ovs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/jsonrpc"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"

	"github.com/causeway-net/causeway/internal/vswitch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bridge = "causeway"

// schema is that of Open vSwitch's database, where its own tools look for it.
func schema() string {
	return filepath.Join(cmp.Or(os.Getenv("OVS_PKGDATADIR"), "/usr/share/openvswitch"), "vswitch.ovsschema")
}

// site runs an Open vSwitch on each host of a rig.
type site struct {
	mu       sync.Mutex // the suite's tests run side by side
	machines map[*planetest.Host]*machine
	datapath string // of the planes; empty is their own choice
}

// machine is a host's Open vSwitch: its own daemons, and the bridge brphy that
// has the NIC and its address, for the userspace datapath sends tunnels through
// bridges only.
type machine struct {
	host    *planetest.Host
	runDir  string
	daemons map[string]*exec.Cmd
	*vswitch.Switch
}

func newSite(t *testing.T) *site {
	t.Helper()
	for _, tool := range []string{"ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ip", "ping", "nstat"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not on the PATH", tool)
		}
	}
	if _, err := os.Stat(schema()); err != nil {
		t.Skip(err)
	}
	return &site{machines: map[*planetest.Host]*machine{}}
}

// suite is the common suite's view of this data plane; vtep is the address
// before the first host's.
func (s *site) suite(vtep, tunnel string) planetest.Config {
	port := uint16(0)
	if tunnel == "" || tunnel == "vxlan" {
		port = 8472
	}
	return planetest.Config{
		Mode: fabric.ModeOVS,
		VTEP: netip.MustParseAddr(vtep),
		New:  func(t *testing.T, host *planetest.Host) planetest.Plane { return s.plane(t, host) },
		Network: func(number int) fabric.Network {
			return fabric.Network{Name: "foo", VNI: uint32(number), Tunnel: tunnel}
		},
		Text: func(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
			return s.machine(t, host).text(t, segment)
		},
		Cut: func(t *testing.T, host *planetest.Host, segment fabric.Segment) {
			s.machine(t, host).tool(t, "ovs-ofctl", "del-flows", bridge, "table=40")
		},
		Responds:   true,
		Filters:    true,
		TunnelPort: port,
		Space: func(t *testing.T, host *planetest.Host, _ fabric.Segment) (planetest.Space, error) {
			return s.machine(t, host).space()
		},
	}
}

// sealedSuite has the networks encrypted: devices of the kernel carry them. What the switch
// does at the containers' ports is the same for all networks, and left out.
func (s *site) sealedSuite() planetest.Config {
	config := s.suite("10.99.0.0", "")
	config.Encrypted, config.TunnelPort, config.Filters = true, 4789, false
	config.Space = func(t *testing.T, host *planetest.Host, _ fabric.Segment) (planetest.Space, error) {
		space, err := s.machine(t, host).space()
		space.Own, space.More = regexp.MustCompile(`\bcwx|table netdev causeway-ovs`), nil
		return space, err
	}
	return config
}

// space is the host's namespace, and its switch.
func (m *machine) space() (planetest.Space, error) {
	ns, err := unix.Dup(int(m.host.NS))
	ofctl := "ovs-ofctl -O " + vswitch.OpenFlow15 + " "
	vsctl := "ovs-vsctl --db=unix:" + filepath.Join(m.runDir, "db.sock") + " "
	at := "unix:" + filepath.Join(m.runDir, bridge+".mgmt")
	return planetest.Space{
		NS: netns.NsHandle(ns), Own: regexp.MustCompile(`\bcw|causeway|cookie=|group_id=`), Foreign: regexp.MustCompile(`brphy|proto kernel|inet causeway-tunnels`),
		Left: regexp.MustCompile(`ip link set causeway `), // no frame takes the bridge's own end
		More: []planetest.Listing{
			{Command: ofctl + "--no-stats dump-flows " + at, Lines: regexp.MustCompile(`^cookie=\S+ (?P<sort>table=(\d+), (priority=\d+))(\S*) actions=`), Harms: []string{
				ofctl + "--strict del-flows " + at + " table=$2,$3$4",
			}},
			{Command: ofctl + "dump-groups " + at, Lines: regexp.MustCompile(`group_id=(\d+)`), Harms: []string{
				ofctl + "del-groups " + at + " group_id=$1", ofctl + "mod-group " + at + " group_id=$1,type=all",
			}},
			{Command: vsctl + "list-ports " + bridge, Lines: regexp.MustCompile(`^(cwvxlan)$`), Harms: []string{
				vsctl + "set Interface $1 options:dst_port=4799",
			}},
		},
	}, err
}

// machine gives a host its own, which is made the first time.
func (s *site) machine(t *testing.T, host *planetest.Host) *machine {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, up := s.machines[host]; !up {
		s.machines[host] = newMachine(t, host)
	}
	return s.machines[host]
}

func (s *site) plane(t *testing.T, host *planetest.Host) *Plane {
	t.Helper()
	m := s.machine(t, host)
	log := logrus.New()
	log.SetOutput(io.Discard)
	filter, err := hostfilter.Open(hostfilter.Config{NS: host.NS, VTEP: host.VTEP, Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filter.Close() })
	plane, err := New(Config{Datapath: s.datapath, Senders: filter, VTEP: host.VTEP, RunDir: m.runDir, HostNS: host.NS, Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	return plane
}

func newMachine(t *testing.T, host *planetest.Host) *machine {
	t.Helper()
	// A test's own folder can have a longer path than a socket may have.
	runDir, err := os.MkdirTemp("", "ovs") //nolint:usetesting
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runDir) })
	m := &machine{host: host, runDir: runDir, daemons: map[string]*exec.Cmd{}}
	m.Switch = vswitch.New(runDir, bridge, nil)
	db := filepath.Join(runDir, "conf.db")
	m.tool(t, "ovsdb-tool", "create", db, schema())
	m.start(t, "ovsdb-server", "--remote=punix:"+filepath.Join(runDir, "db.sock"), db)
	until(t, "ovsdb-server answers", func() bool {
		conn, err := jsonrpc.Dial(t.Context(), filepath.Join(runDir, "db.sock"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	m.tool(t, "ovs-vsctl", "--no-wait", "init")
	m.startSwitch(t)
	nic := strings.Fields(m.ip(t, "-br", "link", "show", "eth0"))[2]
	m.tool(t, "ovs-vsctl", "add-br", "brphy", "--", "set", "Bridge", "brphy", "datapath_type=netdev",
		fmt.Sprintf("other_config:hwaddr=%q", nic), "--", "add-port", "brphy", "eth0")
	address := netip.PrefixFrom(host.VTEP, host.VTEP.BitLen()-8).String()
	m.ip(t, "addr", "del", address, "dev", "eth0")
	m.ip(t, "link", "set", "brphy", "up")
	m.ip(t, append([]string{"addr", "add", address, "dev", "brphy"}, nodad(host.VTEP)...)...)
	return m
}

// nodad lets an IPv6 address be used at once.
func nodad(addr netip.Addr) []string {
	if addr.Is6() {
		return []string{"nodad"}
	}
	return nil
}

func (m *machine) startSwitch(t *testing.T) {
	t.Helper()
	m.start(t, "ovs-vswitchd", "unix:"+filepath.Join(m.runDir, "db.sock"))
	until(t, "ovs-vswitchd answers", func() bool { return m.Missing(t.Context()) == nil })
}

// start runs a daemon in the host until the test ends.
func (m *machine) start(t *testing.T, daemon string, args ...string) {
	t.Helper()
	args = append([]string{"--pidfile", "--log-file=" + filepath.Join(m.runDir, daemon+".log"), "-vconsole:off"}, args...)
	command := exec.Command(daemon, args...)
	command.Env = append(os.Environ(), "OVS_RUNDIR="+m.runDir)
	planetest.Within(t, m.host.NS, command.Start)
	m.daemons[daemon] = command
	t.Cleanup(func() { m.stop(daemon, syscall.SIGTERM) })
}

func (m *machine) stop(daemon string, signal os.Signal) {
	command, running := m.daemons[daemon]
	if !running {
		return
	}
	delete(m.daemons, daemon)
	_ = command.Process.Signal(signal)
	_ = command.Process.Signal(syscall.SIGCONT) // one that is halted sees no signal
	_ = command.Wait()
}

func (m *machine) tool(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := m.Exec(t.Context(), nil, tool, args...)
	if err != nil {
		t.Fatalf("%s %v: %v", tool, args, err)
	}
	return string(out)
}

func (m *machine) ip(t *testing.T, args ...string) string {
	t.Helper()
	return within(t, m.host.NS, "ip", args...)
}

// flows gives what the switch has of ours.
func (m *machine) flows(t *testing.T) []vswitch.Flow {
	t.Helper()
	flows, err := m.DumpFlows(t.Context(), cookieOurs, cookieMask, "")
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

// groups gives those that the switch has of ours.
func (m *machine) groups(t *testing.T) map[uint32]string {
	t.Helper()
	all, _, err := m.DumpGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	groups, _ := ourGroups(all)
	return groups
}

// text is what people see of a segment.
func (m *machine) text(t *testing.T, segment fabric.Segment) string {
	t.Helper()
	if m.Generation() == "" {
		return "no bridge\n"
	}
	var flows []vswitch.Flow
	for _, cookie := range []uint64{cookieOurs, cookieOf(segment.Network)} { // those of all networks, and its own
		some, err := m.DumpFlows(t.Context(), cookie, ^uint64(0), "")
		if err != nil {
			return err.Error()
		}
		flows = append(flows, some...)
	}
	slices.SortFunc(flows, vswitch.CompareFlows)
	var b strings.Builder
	for _, f := range flows {
		b.WriteString(f.String() + "\n")
	}
	groups := m.groups(t)
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		if id&vniMask == segment.Network.VNI {
			fmt.Fprintf(&b, "%#x %s\n", id, groups[id])
		}
	}
	meters, err := m.DumpMeters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := m.Interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b vswitch.Interface) int { return strings.Compare(a.Name, b.Name) })
	for _, row := range rows {
		if row.ExternalIDs[vswitch.IDNetwork] == segment.Network.ID || row.ExternalIDs[vswitch.IDTunnel] != "" {
			fmt.Fprintf(&b, "%+v\n", row)
			for number := range uint32(metersOfPort) {
				if meter, there := meters[broadcastMeter(row.Port)+number]; there {
					fmt.Fprintf(&b, "%+v\n", meter)
				}
			}
		}
	}
	b.WriteString(m.links(t, segment))
	return b.String()
}

// links are the host's ends of the segment's containers and of its gateway, and the tables of nftables.
func (m *machine) links(t *testing.T, segment fabric.Segment) string {
	t.Helper()
	names := []string{gateway.LinkName(segment.Network), fabric.SealedPort(segment.Network)}
	for _, endpoint := range segment.Local {
		names = append(names, nl.HostEnd(endpoint.ID))
	}
	if wanted, ok := gateway.Of(segment.Network); ok {
		names = append(names, nl.HostEnd(wanted.Endpoint().ID))
	}
	var b strings.Builder
	for _, name := range names {
		for _, kind := range []string{"link", "address"} {
			out, _ := planetest.Output(t, m.host.NS, "ip", "-o", kind, "show", "dev", name) // a missing device is text, too
			fmt.Fprintln(&b, name, facts.FindAllString(out, -1))
		}
	}
	fdb, _ := planetest.Output(t, m.host.NS, "bridge", "fdb", "show", "dev", fabric.SealedPort(segment.Network))
	fmt.Fprintln(&b, slices.Sorted(strings.Lines(fdb)))
	for _, table := range []string{"netdev causeway-ovs", "ip causeway-gateway-ovs", "ip6 causeway-gateway-ovs"} {
		out, _ := planetest.Output(t, m.host.NS, "nft", append([]string{"list", "table"}, strings.Fields(table)...)...)
		fmt.Fprintln(&b, strings.Count(out, "\n"), "lines of", table)
	}
	return b.String()
}

//nolint:gochecknoglobals // a constant, if regexp had any
var facts = regexp.MustCompile(`[<,]UP\b|mtu \d+|link/ether \S+|inet6? \S+`)

// within runs a command in a network namespace.
func within(t *testing.T, ns netns.NsHandle, command string, args ...string) string {
	t.Helper()
	out, err := planetest.Output(t, ns, command, args...)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", command, strings.Join(args, " "), err, out)
	}
	return out
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

// recording notes each command, and what it is given to read, before next runs it.
func recording(next vswitch.Exec, commands *[]string) vswitch.Exec {
	return func(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error) {
		line := command + " " + strings.Join(args, " ")
		if stdin != nil {
			read, err := io.ReadAll(stdin)
			if err != nil {
				return nil, err
			}
			line += "\n" + string(read)
			stdin = bytes.NewReader(read)
		}
		*commands = append(*commands, line)
		return next(ctx, stdin, command, args...)
	}
}
