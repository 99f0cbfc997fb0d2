package ovs

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// TestSuiteSealed has the networks encrypted.
func TestSuiteSealed(t *testing.T) { planetest.Run(t, newSite(t).sealedSuite()) }

// TestNothingIsMerged holds that the userspace datapath, which takes no frame that is larger
// than the MTU, gets none of an encrypted network.
func TestNothingIsMerged(t *testing.T) {
	rig, network, _, _ := planetest.Two(t, newSite(t).sealedSuite())
	for _, device := range []string{"eth0", fabric.SealedPort(network)} { // eth0 has the ends of the tunnels
		if out := within(t, rig.Hosts[0].NS, "ethtool", "-k", device); !strings.Contains(out, "generic-receive-offload: off") {
			t.Errorf("%s", out)
		}
	}
}

func TestSuite(t *testing.T) { planetest.Run(t, newSite(t).suite("10.99.0.0", "")) }

func v4(c *planetest.Container) netip.Addr { return c.Endpoint.Addrs[0].Addr() }
func v6(c *planetest.Container) netip.Addr { return c.Endpoint.Addrs[1].Addr() }

// pings says whether an echo request of that size, not to be cut, is answered.
func pings(t *testing.T, from *planetest.Container, to netip.Addr, args ...string) bool {
	t.Helper()
	args = append([]string{"-n", "-q", "-c", "1", "-i", "0.1", "-w", "2"}, args...)
	_, err := planetest.Output(t, from.NS(), "ping", append(args, to.String())...)
	return err == nil
}

func TestEachTunnelTypeCarriesFullFramesAndTCP(t *testing.T) {
	for _, test := range []struct{ tunnel, vtep string }{
		{"vxlan", "10.99.0.0"}, {"vxlan", "fd99::"}, {"geneve", "10.99.0.0"}, {"gre", "10.99.0.0"},
	} {
		t.Run(test.tunnel+" "+test.vtep, func(t *testing.T) {
			rig, network, a, b := planetest.Two(t, newSite(t).suite(test.vtep, test.tunnel))
			c := rig.Start(rig.Hosts[0], network, 4)
			mtu := 1500 - fabric.Overhead(network, rig.Hosts[0].VTEP)
			if link := within(t, a.NS(), "ip", "link", "show", "eth0"); !strings.Contains(link, fmt.Sprint("mtu ", mtu, " ")) {
				t.Errorf("want MTU %d: %s", mtu, link)
			}
			const headers = 28 // IPv4 and ICMP
			if !pings(t, a, v4(b), "-M", "do", "-s", fmt.Sprint(mtu-headers)) {
				t.Error("a frame of full size does not arrive")
			}
			for _, pair := range [][2]*planetest.Container{{a, b}, {b, a}, {a, c}} {
				for _, addr := range []netip.Addr{v4(pair[1]), v6(pair[1])} {
					if n := transfer(t, pair[0], pair[1], addr); n != megabyte {
						t.Errorf("to %s %d bytes of %d arrived", addr, n, megabyte)
					}
				}
			}
		})
	}
}

// The kernel's own VXLAN, as of mode=vxlan, passes a host's switch untouched.
func TestKernelVXLANWorksBesideOurs(t *testing.T) {
	rig, _, a, b := planetest.Two(t, newSite(t).suite("10.99.0.0", ""))
	for i, host := range rig.Hosts {
		for _, command := range []string{
			fmt.Sprintf("link add kernel type vxlan id 5 dstport 4789 local %s remote %s", host.VTEP, rig.Hosts[1-i].VTEP),
			"link set kernel up", fmt.Sprintf("addr add 10.5.0.%d/24 dev kernel", i+1),
		} {
			within(t, host.NS, "ip", strings.Fields(command)...)
		}
	}
	within(t, rig.Hosts[0].NS, "ping", "-n", "-q", "-c", "1", "-i", "0.1", "-w", "5", "10.5.0.2")
	if !pings(t, a, v4(b)) {
		t.Error("containers do not talk")
	}
}

func TestLinkLocalAddressesTalk(t *testing.T) {
	_, _, a, b := planetest.Two(t, newSite(t).suite("10.99.0.0", ""))
	until(t, "the address is no longer tentative", func() bool {
		return !strings.Contains(within(t, a.NS(), "ip", "address", "show", "tentative"), "inet6")
	})
	if !pings(t, a, addresses(b.Endpoint)[2], "-I", "eth0") {
		t.Error("the link-local address made from the MAC does not answer")
	}
}

func TestFlowsReadAsWritten(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 2)
	network := rig.Network(1)
	for number := range 4 {
		rig.Start(rig.Hosts[number%2], network, number+2)
	}
	rig.Apply()
	for _, host := range rig.Hosts {
		want := append(staticFlows(), host.Plane.(*Plane).programme(rig.Segment(host, network)).flows()...)
		if diff := diffFlows(want, site.machine(t, host).flows(t)); diff != "" {
			t.Errorf("%s (-written +read):\n%s", host.Name, diff)
		}
	}
}

func diffFlows(want, got []vswitch.Flow) string {
	return cmp.Diff(vswitch.Change{}, vswitch.ChangeOf(want, got))
}
