package routed

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// suite is the common suite's view of this data plane.
func suite(vtep string, via fabric.Via) planetest.Config {
	return planetest.Config{
		Mode: fabric.ModeRouted, VTEP: netip.MustParseAddr(vtep), Routed: true, Filters: true,
		New: func(t *testing.T, host *planetest.Host) planetest.Plane {
			logger := logrus.New()
			logger.SetOutput(t.Output())
			until(t, func() bool { return run(t, host, "ip -6 address show tentative") == "" }) // the host asks its neighbours with it
			log := logrus.NewEntry(logger)
			filter, err := hostfilter.Open(hostfilter.Config{NS: host.NS, VTEP: host.VTEP, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { filter.Close() })
			plane, err := New(Config{Senders: filter, VTEP: host.VTEP, HostNS: host.NS, Board: health.New(log), Log: log})
			if err != nil {
				t.Fatal(err)
			}
			return plane
		},
		Network: func(number int) fabric.Network {
			four, six := fmt.Sprintf("172.31.%d.", 6+number), fmt.Sprintf("fd31:%d::", 6+number)
			return fabric.Network{Via: via, Subnets: []fabric.Subnet{
				{Prefix: netip.MustParsePrefix(four + "0/24"), Gateway: netip.MustParseAddr(four + "1")},
				{Prefix: netip.MustParsePrefix(six + "/64"), Gateway: netip.MustParseAddr(six + "1")},
			}}
		},
		Text:  text,
		Space: space,
		Cut: func(t *testing.T, host *planetest.Host, segment fabric.Segment) {
			run(t, host, "ip route flush proto 67", "ip -6 route flush proto 67", "ip link set "+gateway.LinkName(segment.Network)+" down")
		},
		MACs: func(t *testing.T, host *planetest.Host, _ fabric.Segment) int {
			return strings.Count(run(t, host, "bridge fdb show"), "\n")
		},
	}
}

func until(t *testing.T, holds func() bool) {
	t.Helper()
	await.Within(t, 10*time.Second, "the condition", func() error {
		if !holds() {
			return errors.New("not yet")
		}
		return nil
	})
}

// run runs commands on the host and returns what they say.
func run(t *testing.T, host *planetest.Host, commands ...string) string {
	t.Helper()
	var all strings.Builder
	for _, command := range commands {
		words := strings.Fields(command)
		out, err := planetest.Output(t, host.NS, words[0], words[1:]...)
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		all.WriteString(out)
	}
	return all.String()
}

// moving is what the kernel changes by itself.
var moving = regexp.MustCompile(`(?m)^\d+: | (flowid|id) \S+| \w+_timer +[\d.]+| state [A-Z]+|@\w+|(port_id|port_no|designated_port) \w+| linkdown|,?NO-CARRIER|,LOWER_UP|tentative`)

// text is the kernel's own text of a segment.
func text(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
	t.Helper()
	bridge := gateway.LinkName(segment.Network)
	commands := []string{
		"ip route show proto 67", "ip -6 route show proto 67", "ip -d link show " + bridge, "ip address show " + bridge,
		"nft list table ip causeway-gateway-routed", "nft list table ip6 causeway-gateway-routed",
		"tc filter show dev eth0 ingress", "tc filter show dev eth0 egress",
	}
	for _, device := range []string{fabric.RoutedDevice, fabric.SealedDevice} {
		commands = append(commands, "ip -d link show "+device, "ip neigh show dev "+device, "ip -6 neigh show dev "+device, "bridge fdb show dev "+device)
	}
	for _, endpoint := range segment.Local {
		commands = append(commands, "bridge -d link show dev "+nl.HostEnd(endpoint.ID), "bridge fdb show dev "+nl.HostEnd(endpoint.ID),
			"tc filter show dev "+nl.HostEnd(endpoint.ID)+" ingress", "tc filter show dev "+nl.HostEnd(endpoint.ID)+" egress")
	}
	var all strings.Builder
	for _, command := range commands {
		words := strings.Fields(command)
		out, _ := planetest.Output(t, host.NS, words[0], words[1:]...) // a missing device is text too
		lines := strings.Split(moving.ReplaceAllString(out, ""), "\n")
		if words[0] != "nft" {
			slices.Sort(lines)
		}
		all.WriteString("# " + command + strings.Join(lines, "\n") + "\n")
	}
	return all.String()
}

// space is the host's namespace, with what the plane makes for all networks.
func space(_ *testing.T, host *planetest.Host, _ fabric.Segment) (planetest.Space, error) {
	ns, err := unix.Dup(int(host.NS))
	return planetest.Space{
		NS:  netns.NsHandle(ns),
		Own: regexp.MustCompile(`cwgr-|qdisc clsact|cw-routed|proto 67|gateway-routed`), Foreign: regexp.MustCompile(`proto kernel`),
	}, err
}

// TestSuiteDirect has IPv4 routes with IPv6 next hops, too.
func TestSuiteDirect(t *testing.T) { planetest.Run(t, suite("fd99::", fabric.ViaDirect)) }

// TestSuiteAuto has IPv4 routed direct, and IPv6 through the tunnel.
func TestSuiteAuto(t *testing.T) { planetest.Run(t, suite("10.99.0.0", fabric.ViaAuto)) }

// TestSenders are the hosts with an endpoint on a routed network, and no others.
func TestSenders(t *testing.T) {
	rig, network, _, _ := planetest.Two(t, suite("10.99.0.0", fabric.ViaVXLAN))
	senders := func() string { return run(t, rig.Hosts[0], "nft list set inet causeway-tunnels senders4") }
	rig.Prune()
	if out := senders(); !strings.Contains(out, "10.99.0.2") || strings.Contains(out, "10.99.0.1") {
		t.Errorf("senders are %s", out)
	}
	for _, endpoint := range rig.Segment(rig.Hosts[1], network).Local {
		rig.Forget(endpoint)
	}
	rig.Apply()
	if out := senders(); strings.Contains(out, "10.99.0.2") {
		t.Errorf("a host that left the network may send: %s", out)
	}
}

// TestHostsRoutes has Check name what a subnet overlaps, and Apply leave others' routes alone.
func TestHostsRoutes(t *testing.T) {
	rig := planetest.NewRig(t, suite("10.99.0.0", fabric.ViaAuto), 2)
	host, network := rig.Hosts[0], rig.Network(1)
	run(t, host, "ip route add 172.31.0.0/16 via 10.99.0.2")
	err := host.Plane.Check(t.Context(), network)
	if err == nil || !strings.Contains(err.Error(), "its subnet 172.31.7.0/24 overlaps a route of this host: 172.31.0.0/16 on eth0 by 10.99.0.2") {
		t.Errorf("overlapping: %v", err)
	}
	run(t, host, "ip route del 172.31.0.0/16")
	if err := host.Plane.Check(t.Context(), network); err != nil {
		t.Errorf("when the route is gone: %v", err)
	}
	const theirs = "172.31.7.3 via 10.99.0.2 dev eth0 metric 7"
	run(t, host, "ip route add "+theirs)
	a, b := rig.Start(host, network, 2), rig.Start(rig.Hosts[1], network, 3)
	if !a.Ping(t, b.Endpoint.Addrs[0].Addr()) {
		t.Error("the other container is not reached")
	}
	rig.Forget(a.Endpoint)
	rig.Forget(b.Endpoint)
	rig.Prune()
	if got := strings.TrimSpace(run(t, host, "ip route show 172.31.7.3")); got != theirs {
		t.Errorf("another's route is now %q", got)
	}
	for name, change := range map[string]func(*fabric.Network){
		"has no gateway address":              func(n *fabric.Network) { n.Subnets[0].Gateway = netip.Addr{} },
		"is larger than subnet 172.31.7.0/24": func(n *fabric.Network) { n.Block = 20 },
		"fd31:7::/64 cannot be routed direct": func(n *fabric.Network) { n.Via = fabric.ViaDirect },
		"MTU 1000 is less than IPv6's least":  func(n *fabric.Network) { n.MTU = 1000 },
	} {
		bad := network
		bad.Subnets = slices.Clone(network.Subnets)
		change(&bad)
		if err := host.Plane.Check(t.Context(), bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
