package ovs

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/internal/planetest"
)

// The userspace datapath leaves a container's frames to the host's own stack too.
func TestTheHostsStackHearsNoContainer(t *testing.T) {
	if _, err := exec.LookPath("arping"); err != nil {
		t.Skip("arping is not on the PATH")
	}
	site := newSite(t)
	site.datapath = "netdev"
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	network, host := rig.Network(1), rig.Hosts[0]
	a, b := rig.Start(host, network, 2), rig.Start(host, network, 3)
	until(t, "the address is no longer tentative", func() bool {
		return !strings.Contains(within(t, a.NS(), "ip", "address", "show", "tentative"), "inet6")
	})
	const advertisement, seconds = 134, 200 // RFC 4861 §4.2
	router := []byte{advertisement, 0, 0, 0, 64, 0, 0, seconds, 0, 0, 0, 0, 0, 0, 0, 0}
	quiet := func() {
		t.Helper()
		if out, err := planetest.Output(t, a.NS(), "arping", "-c", "1", "-w", "1", "-I", "eth0", host.VTEP.String()); err == nil {
			t.Errorf("the host answers: %s", out)
		}
		sendICMPv6(t, a, addresses(a.Endpoint)[2], netip.MustParseAddr("ff02::1"), router)
		if !pings(t, a, v4(b)) {
			t.Error("containers do not talk")
		}
		if route := within(t, host.NS, "ip", "-6", "route", "show", "default"); route != "" {
			t.Errorf("the host took a route: %s", route)
		}
	}
	quiet()
	within(t, host.NS, "nft", "delete", "table", "netdev", filterTable)
	host.Plane.Invalidate()
	if repaired := rig.Apply(host); repaired != 3 {
		t.Errorf("repaired %d entries, want the containers' ports and the gateway's", repaired)
	}
	quiet()
	rig.Forget(b.Endpoint)
	rig.Apply()
	if left := within(t, host.NS, "nft", "list", "table", "netdev", filterTable); strings.Count(left, "chain") != 2 {
		t.Errorf("chains left: %s", left)
	}
	rig.Forget(a.Endpoint)
	rig.Prune()
	if left := within(t, host.NS, "nft", "list", "tables"); left != "table inet causeway-tunnels\n" { // the host filter's
		t.Errorf("tables left: %s", left)
	}
}
