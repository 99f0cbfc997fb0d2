package vxlan

import (
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

// suite is the common suite's view of this data plane.
func suite(vtep string) planetest.Config {
	return planetest.Config{
		Mode: fabric.ModeVXLAN,
		VTEP: netip.MustParseAddr(vtep),
		New: func(t *testing.T, host *planetest.Host) planetest.Plane {
			return newPlane(t, host)
		},
		Network:  func(number int) fabric.Network { return fabric.Network{VNI: 0x800000 + uint32(number)} },
		Text:     text,
		Cut:      cut,
		Space:    space,
		Responds: true,
		Filters:  true,
		MACs:     macs, TunnelPort: 4789,
	}
}

func newPlane(t *testing.T, host *planetest.Host) *Plane {
	t.Helper()
	dir := filepath.Join(host.Dir, "netns")
	plane, err := New(Config{Dir: dir, HostNS: host.NS, Senders: openFilter(t, host.NS, host.VTEP), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tidy(t, dir) })
	return plane
}

func openFilter(t testing.TB, ns netns.NsHandle, vtep netip.Addr) *hostfilter.Filter {
	t.Helper()
	filter, err := hostfilter.Open(hostfilter.Config{NS: ns, VTEP: vtep, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := filter.Close(); err != nil {
			t.Error(err)
		}
	})
	return filter
}

// moving is what the kernel changes by itself: clocks, carrier, what it counts up.
var moving = regexp.MustCompile(`(?m)^\d+: | (flowid|id) \S+| \w+_timer +[\d.]+| state [A-Z]+|@\w+| (gso|gro|tso)_max_\w+ \d+|(port_id|port_no|designated_port) \w+`)

// text is the kernel's own text of a segment, without what it does by itself.
func text(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
	t.Helper()
	ns, err := nl.OpenNamespace(pathOf(host, segment.Network))
	if err != nil {
		return "no namespace\n"
	}
	defer ns.Close()
	devices := []string{bridgeName, tunnelName}
	for _, endpoint := range segment.Local {
		devices = append(devices, nl.HostEnd(endpoint.ID))
	}
	commands := []string{"ip neigh show nud permanent"}
	for _, device := range devices {
		commands = append(commands, "ip -d link show "+device, "ip address show "+device, "bridge -d link show dev "+device, "bridge fdb show dev "+device,
			"tc filter show dev "+device+" ingress")
	}
	var all strings.Builder
	for _, command := range commands {
		words := strings.Fields(command)
		out, _ := planetest.Output(t, ns, words[0], words[1:]...) // a missing device is text too
		lines := strings.Split(moving.ReplaceAllString(out, ""), "\n")
		if words[1] != "-d" {
			slices.Sort(lines)
		}
		lines = slices.DeleteFunc(lines, func(line string) bool {
			return words[1] == "fdb" && strings.Contains(line, "master") && !strings.Contains(line, "static")
		})
		all.WriteString("# " + command + strings.Join(lines, "\n") + "\n")
	}
	return all.String()
}

// space is the network's namespace: all in it is the plane's, but for what the kernel
// brings along with a device.
func space(_ *testing.T, host *planetest.Host, segment fabric.Segment) (planetest.Space, error) {
	ns, err := nl.OpenNamespace(pathOf(host, segment.Network))
	foreign := regexp.MustCompile(`^\d+: lo:|^(33:33|01:00|local |broadcast |anycast |multicast )|proto kernel|lookup (local|main|default)`)
	return planetest.Space{NS: ns, Foreign: foreign}, err
}

func macs(t *testing.T, host *planetest.Host, segment fabric.Segment) int {
	t.Helper()
	ns, err := nl.OpenNamespace(pathOf(host, segment.Network))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	out, err := planetest.Output(t, ns, "bridge", "fdb", "show")
	if err != nil {
		t.Fatal(out)
	}
	return strings.Count(out, "\n")
}

func cut(t *testing.T, host *planetest.Host, segment fabric.Segment) {
	t.Helper()
	mac := segment.Remote[0].MAC.String()
	run(t, host, segment.Network, "ip neigh flush dev br0 nud permanent\n"+
		"bridge fdb del "+mac+" dev vxlan0 master\n"+
		"bridge fdb del "+mac+" dev vxlan0 self\n"+
		"bridge fdb del 00:00:00:00:00:00 dev vxlan0 self")
}

func pathOf(host *planetest.Host, network fabric.Network) string {
	return filepath.Join(host.Dir, "netns", nsPrefix+fabric.ShortHash(network.ID))
}

// run runs commands, one a line, in the network's namespace.
func run(t *testing.T, host *planetest.Host, network fabric.Network, commands string) {
	t.Helper()
	ns, err := nl.OpenNamespace(pathOf(host, network))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for command := range strings.Lines(commands) {
		words := strings.Fields(command)
		if out, err := planetest.Output(t, ns, words[0], words[1:]...); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
}

func TestSuite(t *testing.T)         { planetest.Run(t, suite("10.99.0.0")) }
func TestSuiteOverIPv6(t *testing.T) { planetest.Run(t, suite("fd99::")) }

// stormOf runs a batch of bridge(8) in the network's namespace.
func stormOf(t *testing.T, host *planetest.Host, network fabric.Network, batch string) <-chan error {
	t.Helper()
	file := filepath.Join(host.Dir, "batch")
	if err := os.WriteFile(file, []byte(batch), 0o600); err != nil {
		t.Fatal(err)
	}
	ns, err := nl.OpenNamespace(pathOf(host, network))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	command := exec.CommandContext(t.Context(), "bridge", "-force", "-batch", file)
	planetest.Within(t, ns, command.Start)
	done := make(chan error, 1)
	go func() { _ = command.Wait(); done <- nil }() // a line fails where Apply was between the two
	return done
}
