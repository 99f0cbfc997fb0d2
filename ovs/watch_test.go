package ovs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// watch has the host's plane watch its switch until the test ends, and gives the
// networks that it tells of.
func watch(t *testing.T, host *planetest.Host) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	drifts, ended := make(chan string, 100), make(chan error)
	go func() {
		ended <- host.Plane.(*Plane).Watch(ctx, func(network string) { drifts <- network })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: %v", err)
		}
	})
	return drifts
}

// settled waits until the plane watches, and tells of nothing more.
func settled(t *testing.T, rig *planetest.Rig, host *planetest.Host, m *machine, drifts <-chan string, networks ...fabric.Network) {
	t.Helper()
	m.tool(t, "ovs-ofctl", "add-flow", bridge, fmt.Sprintf("cookie=%#x,table=60,actions=drop", uint64(cookieOurs)))
	repair(t, rig, host, drifts, func() bool {
		return !strings.Contains(m.tool(t, "ovs-ofctl", "dump-flows", bridge, "table=60"), "drop")
	}, networks...)
	for {
		select {
		case <-drifts:
			rig.Apply(host)
		default:
			return
		}
	}
}

// repair applies what is told of, as the loop does, until the switch is right.
func repair(t *testing.T, rig *planetest.Rig, host *planetest.Host, drifts <-chan string, right func() bool, networks ...fabric.Network) time.Duration {
	t.Helper()
	begin := time.Now()
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-drifts:
			for _, network := range networks {
				_, _ = host.Plane.Apply(t.Context(), rig.Segment(host, network)) // it may come before the switch is up
			}
		case <-look.C:
			if right() {
				return time.Since(begin)
			}
		case <-limit.C:
			t.Fatal("it was not repaired")
		}
	}
}

func TestDriftIsRepaired(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	host, network := rig.Hosts[0], rig.Network(1)
	a, b := rig.Start(host, network, 2), rig.Start(rig.Hosts[1], network, 3)
	m, port := site.machine(t, host), nl.HostEnd(a.Endpoint.ID)
	drifts := watch(t, host)
	settled(t, rig, host, m, drifts, network)
	vsctl := func(args ...string) func() { return func() { m.tool(t, "ovs-vsctl", args...) } }
	ofctl := func(args ...string) func() {
		return func() { m.tool(t, "ovs-ofctl", append([]string{"-O", vswitch.OpenFlow15}, args...)...) }
	}
	for _, fault := range []struct {
		name string
		harm func()
	}{
		{"all flows are deleted", ofctl("del-flows", bridge)},
		{"a flow is changed", ofctl("mod-flows", bridge, "table=40,actions=drop")},
		{"a flow is replaced", ofctl("add-flow", bridge, "table=30,priority=10,reg1=0,actions=drop")},
		{"a flow is added", ofctl("add-flow", bridge, fmt.Sprintf("cookie=%#x,table=30,priority=200,actions=drop", cookieOf(network)))},
		{"all groups are deleted", ofctl("del-groups", bridge)},
		{"the tunnel port is deleted", vsctl("del-port", "cwvxlan")},
		{"a container's port is deleted", vsctl("del-port", port)},
		{"the fail mode is deleted", vsctl("del-fail-mode", bridge)},
		{"the bridge is deleted", vsctl("del-br", bridge)},
		{"ovs-vswitchd is killed and starts again", func() { m.stop("ovs-vswitchd", syscall.SIGKILL); m.startSwitch(t) }},
		{"the tunnels' next hops are lost", func() { m.tool(t, "ovs-appctl", "tnl/neigh/flush") }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			fault.harm()
			plane := host.Plane.(*Plane)
			took := repair(t, rig, host, drifts, func() bool {
				if m.Generation() == "" || plane.have == nil {
					return false
				}
				want := plane.programme(rig.Segment(host, network))
				groups, _, _ := m.DumpGroups(t.Context())
				flows, err := m.DumpFlows(t.Context(), cookieOurs, cookieMask, "")
				return err == nil && diffFlows(append(staticFlows(), want.flows()...), flows) == "" &&
					slices.Equal(want.groups(), groups) &&
					strings.Contains(m.tool(t, "ovs-appctl", "tnl/neigh/show"), rig.Hosts[1].VTEP.String()) && pings(t, a, v4(b))
			}, network)
			t.Logf("repaired after %s", took.Round(10*time.Millisecond))
		})
	}
}

func TestOwnWritesAreNoDrift(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	host, first, second, third := rig.Hosts[0], rig.Network(1), rig.Network(2), rig.Network(3)
	dead := rig.Start(host, first, 2)
	rig.Start(host, second, 3)
	last := rig.Start(host, third, 4)
	m := site.machine(t, host)
	drifts := watch(t, host)
	settled(t, rig, host, m, drifts, first, second, third)
	plane := host.Plane.(*Plane)
	var commands []string
	plane.vswitch.Exec = recording(plane.vswitch.Exec, &commands)
	endpoint := rig.Start(host, first, 4).Endpoint
	rig.Start(rig.Hosts[1], first, 5)
	far := rig.Start(rig.Hosts[1], first, 6).Endpoint
	rig.Forget(far)
	rig.Apply()
	rig.Forget(endpoint)
	rig.Apply()
	within(t, dead.NS(), "ip", "link", "del", "eth0") // as when a container is killed; the switch tells of it with its next change
	m.tool(t, "ovs-ofctl", "del-flows", bridge, fmt.Sprintf("cookie=%#x/-1,table=30", cookieOf(second)))
	m.tool(t, "ovs-vsctl", "del-port", nl.HostEnd(last.Endpoint.ID))
	for told := map[string]bool{}; !told[second.ID] || !told[third.ID]; {
		select {
		case network := <-drifts:
			if told[network] = true; network != second.ID && network != third.ID {
				t.Fatalf("drift of network %q, which nobody else changed", network)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("what another wrote was not told of: %v", told)
		}
	}
	for _, command := range commands {
		if strings.Contains(command, " dump-") {
			t.Errorf("the plane read back: %s", command)
		}
	}
}

// A watcher must not take what one connection tells for all: after the switch
// hung it goes on, and meanwhile nobody waits for it.
func TestWatchSurvivesAHungSwitch(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	host, network := rig.Hosts[0], rig.Network(1)
	rig.Start(host, network, 2)
	m := site.machine(t, host)
	drifts := watch(t, host)
	settled(t, rig, host, m, drifts, network)
	daemon := m.daemons["ovs-vswitchd"].Process
	if err := daemon.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	rig.Record(host, network, 3)
	begin := time.Now()
	for range 3 {
		host.Plane.Invalidate()
		if _, err := host.Plane.Apply(t.Context(), rig.Segment(host, network)); !errors.Is(err, vswitch.ErrUnresponsive) {
			t.Errorf("Apply: %v", err)
		}
	}
	if took := time.Since(begin); took > vswitch.CommandTimeout+time.Second {
		t.Errorf("three Applies took %s", took)
	}
	if err := daemon.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.tool(t, "ovs-ofctl", "del-flows", bridge, "table=50")
	select {
	case <-drifts:
	case <-time.After(10 * time.Second):
		t.Error("the switch that works again is not watched")
	}
}
