package ovs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/internal/planetest"
)

// The userspace datapath drops the frame that it must ask a next hop's MAC for.
func TestTheFirstPacketToANewHostArrives(t *testing.T) {
	for _, vtep := range []string{"10.99.0.0", "10.99.0.0", "10.99.0.0", "fd99::", "fd99::"} {
		t.Run(vtep, func(t *testing.T) {
			t.Parallel()
			site := newSite(t)
			site.datapath = "netdev"
			rig := planetest.NewRig(t, site.suite(vtep, ""), 2)
			for _, host := range rig.Hosts { // which asks nobody before it is sure of its own address (RFC 4862 §5.4)
				until(t, "addresses can be used", func() bool {
					return within(t, host.NS, "ip", "address", "show", "dev", "brphy", "tentative") == ""
				})
			}
			network := rig.Network(1)
			a, b := rig.Start(rig.Hosts[0], network, 2), rig.Start(rig.Hosts[1], network, 3)
			// A port forwards only when the switch has seen its carrier.
			for i, c := range []*planetest.Container{a, b} {
				if near := rig.Start(rig.Hosts[i], network, 4+i); !pings(t, near, v4(c)) {
					t.Fatal("containers of one host do not talk")
				}
			}
			if out, err := planetest.Output(t, a.NS(), "ping", "-n", "-c", "1", "-W", "2", v4(b).String()); err != nil {
				t.Errorf("the first packet is lost: %s", out)
			}
		})
	}
}

func TestALostNeighbourIsSetAgain(t *testing.T) {
	site := newSite(t)
	site.datapath = "netdev"
	rig, _, a, b := planetest.Two(t, site.suite("10.99.0.0", ""))
	host, peer := rig.Hosts[0], rig.Hosts[1]
	m := site.machine(t, host)
	mac := strings.Fields(within(t, peer.NS, "ip", "-br", "link", "show", "brphy"))[2]
	for name, harm := range map[string][]string{
		"lost":        {"tnl/neigh/flush"},
		"overwritten": {"tnl/neigh/set", "brphy", peer.VTEP.String(), "02:00:00:00:00:99"},
	} {
		t.Run(name, func(t *testing.T) {
			m.tool(t, "ovs-appctl", harm...)
			host.Plane.Invalidate()
			if repaired := rig.Apply(host); repaired != 1 {
				t.Errorf("repaired %d entries, want the neighbour", repaired)
			}
			want := fmt.Sprint(peer.VTEP, mac, "brphy")
			if table := m.tool(t, "ovs-appctl", "tnl/neigh/show"); !strings.Contains(strings.Join(strings.Fields(table), ""), want) {
				t.Errorf("want %s: %s", want, table)
			}
			if !pings(t, a, v4(b)) {
				t.Error("containers do not talk")
			}
		})
	}
	host.Plane.Invalidate()
	if repaired := rig.Apply(host); repaired != 0 {
		t.Errorf("of what is right %d entries were repaired", repaired)
	}
}
