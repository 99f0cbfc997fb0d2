package vxlan

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

// TestWatchNoticesWhatIsChangedByHand changes one thing after another. Each is
// repaired without anybody asking for it.
func TestWatchNoticesWhatIsChangedByHand(t *testing.T) {
	rig, network, a, b := two(t)
	host := rig.Hosts[0]
	drifted := rig.Watch(host)
	look := func() string { return text(t, host, rig.Segment(host, network)) }
	before := look()
	end, local, remote := nl.HostEnd(a.Endpoint.ID), a.Endpoint.MAC.String(), b.Endpoint.MAC.String()
	addr := b.Endpoint.Addrs[0].Addr()
	for i, command := range []string{
		"ip link set br0 down",
		"ip link set br0 alias x",
		"ip link set br0 address 02:00:00:00:00:99",
		"ip link set br0 mtu 1300",
		"ip link set br0 type bridge mcast_snooping 1",
		"ip link del br0",
		"ip link set vxlan0 down",
		"ip link set vxlan0 nomaster",
		"ip link set vxlan0 address 02:00:00:00:00:99",
		"ip link set vxlan0 mtu 1300",
		"ip link set vxlan0 type vxlan learning",
		"ip link del vxlan0",
		"bridge link set dev vxlan0 neigh_suppress off",
		"bridge link set dev vxlan0 learning on",
		"bridge link set dev " + end + " learning on",
		"ip link set " + end + " nomaster",
		"ip link set " + end + " down",
		"tc filter del dev " + end + " ingress",
		"tc qdisc del dev " + end + " clsact",
		"bridge fdb del " + local + " dev " + end + " master",
		"bridge fdb replace " + local + " dev vxlan0 master static",
		"bridge fdb del " + remote + " dev vxlan0 master",
		"bridge fdb replace " + remote + " dev vxlan0 master dynamic",
		"bridge fdb del " + remote + " dev vxlan0 self",
		"bridge fdb replace " + remote + " dev vxlan0 dst 10.99.0.77 self",
		"bridge fdb del 00:00:00:00:00:00 dev vxlan0 self",
		"bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst 10.99.0.77",
		fmt.Sprintf("ip neigh del %s dev br0", addr),
		fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:00:77 dev br0 nud permanent", addr),
		fmt.Sprintf("ip neigh replace %s lladdr %s dev br0 nud stale", addr, remote),
		"ip neigh flush dev br0 nud permanent",
	} {
		if i%2 == 1 {
			host.Plane.Invalidate() // and the Apply that reads back comes later
		}
		run(t, host, network, command)
		began := time.Now()
		rig.Heal(host, drifted, func() bool { return before == look() })
		t.Logf("%-80s seen to be repaired after %s", command, time.Since(began))
	}
	if err := nl.Unbind(pathOf(host, network)); err != nil {
		t.Fatal(err)
	}
	rig.Heal(host, drifted, func() bool { return before == look() })
	if to := b.Endpoint.Addrs[0].Addr(); !a.Ping(t, to) {
		t.Errorf("%s is not reached", to)
	}
}

// TestWatchKnowsWhatThePlaneWrites has the plane write much before something is
// changed by hand: only that is told.
func TestWatchKnowsWhatThePlaneWrites(t *testing.T) {
	rig := planetest.NewRig(t, suite("10.99.0.0"), 2)
	host, network := rig.Hosts[0], rig.Network(1)
	drifted := rig.Watch(host)
	for plane := host.Plane.(*Plane); !plane.watches(); {
		runtime.Gosched() // else it would find segments whose past it does not know
	}
	for number := 2; number < 40; number += 2 {
		rig.Start(host, network, number)
		rig.Forget(rig.Start(host, network, number+100).Endpoint)
		rig.Forget(rig.Start(rig.Hosts[1], network, number+1).Endpoint)
		rig.Apply()
	}
	before := text(t, host, rig.Segment(host, network))
	for range 3 {
		run(t, host, network, "ip link set br0 down")
		times := rig.Heal(host, drifted, func() bool { return before == text(t, host, rig.Segment(host, network)) })
		if times != 1 {
			t.Errorf("drifted %d times, want once", times)
		}
	}
}

func (p *Plane) watches() bool {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	return p.watcher.begin != nil
}

// TestWatchBoundsItsWork has somebody change an entry all the time.
func TestWatchBoundsItsWork(t *testing.T) {
	rig, network, _, _ := two(t)
	host := rig.Hosts[0]
	drifted := rig.Watch(host)
	before := text(t, host, rig.Segment(host, network))
	batch := strings.Repeat("fdb append 00:00:00:00:00:00 dev vxlan0 dst 10.99.0.77\nfdb del 00:00:00:00:00:00 dev vxlan0 dst 10.99.0.77\n", 20_000)
	began := time.Now()
	storm := stormOf(t, host, network, batch)
	times, ended := 0, time.Duration(0)
	for ended == 0 {
		select {
		case <-drifted:
			times++
			rig.Apply(host)
		case err := <-storm:
			if err != nil {
				t.Fatal(err)
			}
			ended = time.Since(began)
		}
	}
	times += rig.Heal(host, drifted, func() bool { return before == text(t, host, rig.Segment(host, network)) })
	t.Logf("drifted %d times in a storm of %s", times, ended)
	if most := int(ended/settle) + 3; times > most {
		t.Errorf("drifted %d times, want at most %d", times, most)
	}
	if diff := cmp.Diff(before, text(t, host, rig.Segment(host, network))); diff != "" {
		t.Error(diff)
	}
}
