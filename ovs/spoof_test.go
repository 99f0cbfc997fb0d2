package ovs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/planetest"
)

func TestSpoofingReachesNobody(t *testing.T) {
	rig, network, a, b := planetest.Two(t, newSite(t).suite("10.99.0.0", ""))
	c := rig.Start(rig.Hosts[0], network, 4)
	others := []*planetest.Container{b, c}
	mac := a.Endpoint.MAC.String()
	for _, test := range []struct{ name, do, undo string }{
		{"IPv4 address", "addr add 172.31.7.99/24 dev eth0", "addr del 172.31.7.99/24 dev eth0"},
		{"IPv6 address", "addr add fd31:7::99/64 dev eth0 nodad", "addr del fd31:7::99/64 dev eth0"},
		{"MAC", "link set eth0 address 02:00:00:00:00:99", "link set eth0 address " + mac},
	} {
		t.Run(test.name, func(t *testing.T) {
			within(t, a.NS(), "ip", strings.Fields(test.do)...)
			for _, at := range others {
				knowNeighbour(t, a, at)
				before := echoRequests(t, at)
				switch test.name {
				case "IPv4 address":
					pings(t, a, v4(at), "-I", "172.31.7.99")
				case "IPv6 address":
					pings(t, a, v6(at), "-I", "fd31:7::99")
				default:
					pings(t, a, v4(at))
					pings(t, a, v6(at))
				}
				if after := echoRequests(t, at); after != before {
					t.Errorf("%d echo requests reached %s", after-before, at.Endpoint.ID)
				}
			}
			within(t, a.NS(), "ip", strings.Fields(test.undo)...)
			for _, at := range others {
				knowNeighbour(t, a, at)
				before := echoRequests(t, at)
				if !pings(t, a, v4(at)) || echoRequests(t, at) == before {
					t.Errorf("as itself it does not reach %s", at.Endpoint.ID)
				}
			}
		})
	}
}

func TestNoContainerClaimsAnothersAddress(t *testing.T) {
	if _, err := exec.LookPath("arping"); err != nil {
		t.Skip("arping is not on the PATH")
	}
	rig, network, a, b := planetest.Two(t, newSite(t).suite("10.99.0.0", ""))
	c := rig.Start(rig.Hosts[0], network, 4)
	within(t, a.NS(), "ip", "addr", "add", v4(b).String()+"/32", "dev", "eth0")
	within(t, c.NS(), "sysctl", "-qw", "net.ipv4.conf.eth0.arp_accept=1")
	for _, mode := range []string{"-U", "-A"} { // a request and a reply that nobody asked for
		_, _ = planetest.Output(t, a.NS(), "arping", "-c", "2", "-w", "2", mode, "-I", "eth0", v4(b).String())
	}
	if neighbours := within(t, c.NS(), "ip", "neigh"); strings.Contains(neighbours, a.Endpoint.MAC.String()) {
		t.Errorf("the claim was believed: %s", neighbours)
	}
	if !pings(t, c, v4(b)) {
		t.Error("the true holder is not reached")
	}
}

func TestNoContainerAdvertisesAnothersIPv6Address(t *testing.T) {
	rig, network, a, b := planetest.Two(t, newSite(t).suite("10.99.0.0", ""))
	victims := []*planetest.Container{rig.Start(rig.Hosts[0], network, 4), rig.Start(rig.Hosts[1], network, 5)}
	within(t, a.NS(), "ip", "addr", "add", v6(b).String()+"/128", "dev", "eth0", "nodad")
	for _, victim := range victims {
		if !pings(t, victim, v6(b)) { // a claim is about a neighbour that is known
			t.Fatal("containers do not talk")
		}
		for _, from := range []netip.Addr{v6(a), v6(b)} {
			for _, to := range []netip.Addr{v6(victim), netip.MustParseAddr("ff02::1")} {
				knowNeighbour(t, a, victim)
				advertise(t, a, from, to, v6(b))
			}
		}
		knowNeighbour(t, a, victim)
		if !pings(t, a, v6(victim), "-I", v6(a).String()) { // what was said before has arrived by now
			t.Error("as itself it does not reach the victim")
		}
		if neighbours := within(t, victim.NS(), "ip", "-6", "neigh", "show", v6(b).String()); !strings.Contains(neighbours, b.Endpoint.MAC.String()) {
			t.Errorf("the claim was believed: %s", neighbours)
		}
		if !pings(t, victim, v6(b)) {
			t.Error("the true holder is not reached")
		}
	}
}

// advertise has c say that it holds claimed, which nobody asked (RFC 4861 §4.4).
func advertise(t *testing.T, c *planetest.Container, from, to, claimed netip.Addr) {
	t.Helper()
	const advertisement, override, targetLinkAddress = 136, 0x20, 2
	message := append([]byte{advertisement, 0, 0, 0, override, 0, 0, 0}, claimed.AsSlice()...)
	sendICMPv6(t, c, from, to, append(append(message, targetLinkAddress, 1), c.Endpoint.MAC[:]...))
}

func sendICMPv6(t *testing.T, c *planetest.Container, from, to netip.Addr, message []byte) {
	t.Helper()
	planetest.Within(t, c.NS(), func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		const hops = 255 // or it is not heard
		return errors.Join(
			unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops),
			unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops),
			unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, link.Index),
			unix.Bind(socket, &unix.SockaddrInet6{Addr: from.As16(), ZoneId: uint32(link.Index)}),
			unix.Sendto(socket, message, 0, &unix.SockaddrInet6{Addr: to.As16()}),
		)
	})
}

// knowNeighbour spares from the question, which a spoofer would get no answer to.
func knowNeighbour(t *testing.T, from, to *planetest.Container) {
	t.Helper()
	for _, addr := range []netip.Addr{v4(to), v6(to)} {
		within(t, from.NS(), "ip", "neigh", "replace", addr.String(), "lladdr", to.Endpoint.MAC.String(), "dev", "eth0")
	}
}

// echoRequests counts those of both families that c ever got.
func echoRequests(t *testing.T, c *planetest.Container) int {
	t.Helper()
	total := 0
	for line := range strings.Lines(within(t, c.NS(), "nstat", "-asz", "IcmpInEchos", "Icmp6InEchos")) {
		var name string
		var n int
		if _, err := fmt.Sscan(line, &name, &n); err == nil && strings.HasSuffix(name, "InEchos") {
			total += n
		}
	}
	return total
}
