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

// TestKeyChanges has a host's key be rotated: no route changes for it.
func TestKeyChanges(t *testing.T) {
	rig, _, a, b := planetest.Two(t, sealedSuite())
	one := rig.Hosts[0]
	rig.Prune() // strangers are kept out from now on
	routes := run(t, one, "ip route show proto 67", "ip -6 route show proto 67")
	if strings.Count(routes, "dev "+fabric.SealedDevice) != 2 {
		t.Errorf("the routes are:\n%s", routes)
	}
	next := planetest.ChangeKey(t, rig, a, b)
	if now := run(t, one, "ip route show proto 67", "ip -6 route show proto 67"); now != routes {
		t.Errorf("the routes are now:\n%s", now)
	}
	fdb := run(t, one, "bridge fdb show dev "+fabric.SealedDevice)
	if strings.Count(fdb, " dst ") != 1 || !strings.Contains(fdb, " dst "+next.Addr().String()) {
		t.Errorf("the FDB is %s", fdb)
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
