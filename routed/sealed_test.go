package routed

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"
)

// sealedSuite has all networks encrypted.
func sealedSuite() planetest.Config {
	config := suite("10.99.0.0", fabric.ViaAuto)
	config.Encrypted = true
	return config
}

// TestSuiteSealed has IPv4 and IPv6 through the tunnel of encrypted networks.
func TestSuiteSealed(t *testing.T) { planetest.Run(t, sealedSuite()) }

// TestKeyChanges has a host's key be rotated, step by step: containers reach each other
// after each, whichever host has read of it, and no route changes.
func TestKeyChanges(t *testing.T) {
	rig, _, a, b := planetest.Two(t, sealedSuite())
	one, two := rig.Hosts[0], rig.Hosts[1]
	old, next := planetest.Key(2), planetest.Key(9)
	reach := func(step string) {
		t.Helper()
		for from, to := range map[*planetest.Container]*planetest.Container{a: b, b: a} {
			for _, addr := range to.Endpoint.Addrs {
				if !from.Ping(t, addr.Addr()) {
					t.Errorf("%s: %s is not reached", step, addr)
				}
			}
		}
	}
	rig.Prune() // strangers are kept out from now on
	reach("before")
	routes := run(t, one, "ip route show proto 67", "ip -6 route show proto 67")
	if strings.Count(routes, "dev "+fabric.SealedDevice) != 2 {
		t.Errorf("the routes are:\n%s", routes)
	}
	for _, step := range []struct {
		name string
		ends fabric.Ends
	}{
		{"the next key is told", fabric.Ends{WireGuard: old, Next: next}},
		{"it is used", fabric.Ends{WireGuard: next, Last: old}},
		{"the last one is gone", fabric.Ends{WireGuard: next}},
	} {
		if len(step.ends.AllEnds()) == 1 { // its device went first
			run(t, two, "ip address del "+old.Addr().String()+"/128 dev eth0")
		}
		rig.SetEnds(two, step.ends)
		for _, host := range []*planetest.Host{two, one} {
			rig.Apply(host)
			reach(fmt.Sprintf("%s, as %s has read", step.name, host.Name))
		}
	}
	if now := run(t, one, "ip route show proto 67", "ip -6 route show proto 67"); now != routes {
		t.Errorf("the routes are now:\n%s", now)
	}
	fdb := run(t, one, "bridge fdb show dev "+fabric.SealedDevice)
	if strings.Count(fdb, " dst ") != 1 || !strings.Contains(fdb, " dst "+next.Addr().String()) {
		t.Errorf("the FDB is %s", fdb)
	}
	if repaired := rig.Apply(); repaired != 0 {
		t.Errorf("%d objects were wrong at the end", repaired)
	}
}

// TestNothingInClear has routes of others lead past the tunnel: the sender's host has no
// packet leave by them, nor the receiver's one come in.
func TestNothingInClear(t *testing.T) {
	for name, judges := range map[string]int{"the sender's host": 0, "the receiver's host": 1, "nobody": 2} {
		t.Run(name+" judges", func(t *testing.T) {
			rig, _, a, b := planetest.Two(t, sealedSuite())
			addrs := []netip.Addr{b.Endpoint.Addrs[0].Addr(), a.Endpoint.Addrs[0].Addr()}
			for number, host := range rig.Hosts {
				run(t, host, "ip route flush proto 67", fmt.Sprintf("ip route add %s via %s", addrs[number], rig.Hosts[1-number].VTEP))
				if number != judges {
					run(t, host, "nft delete table ip causeway-gateway-routed")
				}
			}
			if reached := a.Ping(t, addrs[0]); reached != (judges == 2) {
				t.Errorf("the other container is reached: %t", reached)
			}
		})
	}
}
