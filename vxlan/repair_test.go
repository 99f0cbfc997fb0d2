package vxlan

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

// two is a rig of two hosts with a container each on one network.
func two(t *testing.T) (rig *planetest.Rig, network fabric.Network, a, b *planetest.Container) {
	t.Helper()
	return planetest.Two(t, suite("10.99.0.0"))
}

// TestRepairsWhatWasChangedByHand changes one thing after another, which is also
// what a crash in the middle of Apply leaves, and wants the same text again,
// both from the plane that made it and from one that starts.
func TestRepairsWhatWasChangedByHand(t *testing.T) {
	for name, commands := range map[string]string{
		"bridge deleted":          "ip link del br0",
		"bridge down":             "ip link set br0 down",
		"bridge of another kind":  "ip link del br0\nip link add br0 type veth peer name strange",
		"bridge unmarked":         "ip link set br0 alias x",
		"bridge snooping":         "ip link set br0 type bridge mcast_snooping 1",
		"bridge MAC":              "ip link set br0 address 02:00:00:00:00:99",
		"tunnel port learning":    "bridge link set dev vxlan0 learning on",
		"tunnel deleted":          "ip link del vxlan0",
		"tunnel down":             "ip link set vxlan0 down",
		"tunnel not yet joined":   "ip link set vxlan0 down\nip link set vxlan0 nomaster\nip link set vxlan0 name cwx0",
		"tunnel learning":         "ip link set vxlan0 type vxlan learning",
		"tunnel of another kind":  "ip link del vxlan0\nip link add vxlan0 type veth peer name strange",
		"tunnel with too low MTU": "ip link set vxlan0 mtu 1400",
		"tunnel without answers":  "bridge link set dev vxlan0 neigh_suppress off",
		"all but one marker":      "ip link del vxlan0\nip link del br0",
		"entries of others":       "bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst 10.99.0.77\nip neigh add 172.31.7.99 lladdr 02:00:00:00:00:77 dev br0 nud permanent",
		"entries to elsewhere":    "bridge fdb replace 02:3e:f5:a5:40:9a dev vxlan0 dst 10.99.0.77",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig, network, a, b := two(t)
			host := rig.Hosts[0]
			look := func() string { return text(t, host, rig.Segment(host, network)) }
			before := look()
			for _, again := range []func(){
				func() { host.Plane.Invalidate(); rig.Apply(host) },
				func() { rig.Restart(host) },
			} {
				run(t, host, network, commands)
				if before == look() {
					t.Fatal("the test changed nothing")
				}
				again()
				if diff := cmp.Diff(before, look()); diff != "" {
					t.Errorf("(-before +after):\n%s", diff)
				}
			}
			if to := b.Endpoint.Addrs[0].Addr(); !a.Ping(t, to) {
				t.Errorf("%s is not reached", to)
			}
		})
	}
}

func TestPortsGoBackIntoTheBridge(t *testing.T) {
	rig, network, a, b := two(t)
	host, end := rig.Hosts[0], nl.HostEnd(a.Endpoint.ID)
	run(t, host, network, "ip link set "+end+" nomaster\nip link set "+end+" down")
	host.Plane.Invalidate()
	// The kernel deletes a port's flags and entries with it: bridge, state, learning, FDB entry.
	if repaired := rig.Apply(host); repaired != 4 {
		t.Errorf("%d repaired, want 4", repaired)
	}
	if !a.Ping(t, b.Endpoint.Addrs[0].Addr()) {
		t.Error("the other container is not reached")
	}
}

func TestNamespaceGetsItsNameBack(t *testing.T) {
	rig, network, a, b := two(t)
	host := rig.Hosts[0]
	if err := nl.Unbind(pathOf(host, network)); err != nil {
		t.Fatal(err)
	}
	host.Plane.Invalidate()
	if repaired := rig.Apply(host); repaired != 1 {
		t.Errorf("%d repaired, want 1", repaired)
	}
	rig.Restart(host)
	if !a.Ping(t, b.Endpoint.Addrs[0].Addr()) {
		t.Error("the other container is not reached")
	}
}

// TestPruneLeavesOthersAlone puts what looks like ours beside what is ours.
func TestPruneLeavesOthersAlone(t *testing.T) {
	rig, network, _, _ := two(t)
	host := rig.Hosts[0]
	others := []string{"causeway-0123456789", "somebody"}
	for _, name := range others {
		ns, err := nl.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if err := nl.Bind(ns, filepath.Join(host.Dir, "netns", name)); err != nil {
			t.Fatal(err)
		}
	}
	empty := filepath.Join(host.Dir, "netns", "causeway-9876543210")
	if err := os.WriteFile(empty, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	segment := rig.Segment(host, network)
	segment.Network.Mode = fabric.ModeOVS // keeps nothing of ours
	if err := host.Plane.Prune(t.Context(), []fabric.Segment{segment}); err != nil {
		t.Fatal(err)
	}
	if _, err := nl.OpenNamespace(pathOf(host, network)); !errors.Is(err, nl.ErrNotFound) {
		t.Errorf("our namespace: %v, want ErrNotFound", err)
	}
	if _, err := os.Stat(empty); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty file: %v, want ErrNotExist", err)
	}
	for _, name := range others {
		ns, err := nl.OpenNamespace(filepath.Join(host.Dir, "netns", name))
		if err != nil {
			t.Errorf("another's namespace is gone: %v", err)
			continue
		}
		ns.Close()
	}
}

func TestAnothersNamespaceIsNotTaken(t *testing.T) {
	rig := planetest.NewRig(t, suite("10.99.0.0"), 1)
	host, network := rig.Hosts[0], rig.Network(1)
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := nl.Bind(ns, pathOf(host, network)); err != nil {
		t.Fatal(err)
	}
	rig.Record(host, network, 2)
	_, err = host.Plane.Apply(t.Context(), rig.Segment(host, network))
	if err == nil || !strings.Contains(err.Error(), "is not causeway's") {
		t.Errorf("got %v", err)
	}
}

// TestReachesLinkLocalAddresses uses addresses that are in no record.
func TestReachesLinkLocalAddresses(t *testing.T) {
	_, _, a, b := two(t)
	local := b.Endpoint.MAC.LinkLocal()
	out, err := planetest.Output(t, a.NS(), "ping", "-n", "-c", "20", "-i", "0.2", "-W", "1", local.String()+"%eth0")
	if !strings.Contains(out, "bytes from "+local.String()) {
		t.Errorf("%s is not reached: %v\n%s", local, err, out)
	}
}

// TestBridgeLearnsLittleEvenWhenTold has learning turned on by hand, and nobody
// to turn it off.
func TestBridgeLearnsLittleEvenWhenTold(t *testing.T) {
	config := suite("10.99.0.0")
	config.Network = func(int) fabric.Network { return fabric.Network{VNI: 0x800001, Spoofing: true} }
	rig, network, a, _ := planetest.Two(t, config)
	host := rig.Hosts[0]
	run(t, host, network, "bridge link set dev "+nl.HostEnd(a.Endpoint.ID)+" learning on")
	before := macs(t, host, rig.Segment(host, network))
	a.SendFromMACs(t, 1000)
	if learned := macs(t, host, rig.Segment(host, network)) - before; learned > 1 {
		var kernel unix.Utsname
		if err := unix.Uname(&kernel); err != nil {
			t.Fatal(err)
		}
		t.Errorf("kernel %s: the bridge has learned %d MACs (before 6.8 there is no limit)", kernel.Release, learned)
	}
}
