package underlay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

func endpoint(id string, addrs ...string) fabric.Endpoint {
	e := fabric.Endpoint{ID: id, Network: "phys", Host: "h1"}
	for _, addr := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParsePrefix(addr))
	}
	e.MAC = fabric.DeriveMAC("phys", e.Addrs[0].Addr())
	return e
}

func TestMoveAndBack(t *testing.T) {
	l := newLAN(t)
	before := l.host.text("eth0")
	p := newPlane(t, l.host, t.TempDir())
	e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
	s := segment("phys", func(n *fabric.Network) { n.MTU = 1400 }, e)
	if _, err := p.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c := l.start(p, s, e)
	if got := c.mtu("eth0"); got != "1400" {
		t.Errorf("the container has MTU %s", got)
	}
	if got := l.host.mtu("cw-eth0"); got != "1500" {
		t.Errorf("with a container of a smaller MTU, the host has MTU %s", got)
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.200", "192.0.2.10", "2001:db8:1::1", "2001:db8:1::200", "2001:db8:1::10"} {
		c.reaches(addr)
	}
	for _, m := range []*machine{l.router, l.plain, l.host} {
		m.reaches("192.0.2.128")
		m.reaches("2001:db8:1::128")
	}
	l.host.reaches("198.51.100.1")
	l.host.reaches("2001:db8:ffff::1")
	if err := p.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, l.host.text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	l.host.reaches("198.51.100.1")
	l.host.reaches("2001:db8:ffff::1")
}

// TestNoIPv6 has a link too small for IPv6, which the kernel then refuses all
// that is about IPv6, as it does on a host that was booted without.
func TestNoIPv6(t *testing.T) {
	l := newLAN(t)
	l.host.ip("link set eth0 mtu 1000")
	p := newPlane(t, l.host, t.TempDir())
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", nil, e)
	apply(t, p, s)
	l.start(p, s, e).reaches("192.0.2.1")
}

// TestLinkLocalAddressGoesAlong has one that goes by more than the MAC, and the
// bridge be tempted to make another.
func TestLinkLocalAddressGoesAlong(t *testing.T) {
	for mode, what := range []string{"by MAC", "by hand", "by secret", "at random"} {
		t.Run(what, func(t *testing.T) {
			l := newLAN(t)
			l.connect(l.host, "eth1", "203.0.113.10/24")
			l.host.ip("link set eth1 down")
			l.host.run("sysctl", "-qw", "net.ipv6.conf.eth1.stable_secret=fd00::1")
			l.host.run("sysctl", "-qw", fmt.Sprint("net.ipv6.conf.eth1.addr_gen_mode=", mode))
			l.host.ip("link set eth1 up")
			l.host.settled()
			// The kernel takes no such flag from anybody.
			text := func(device string) string {
				return strings.ReplaceAll(l.host.text(device), "stable-privacy ", "")
			}
			before := text("eth1")
			p := newPlane(t, l.host, t.TempDir())
			s := segment("phys", func(n *fabric.Network) { n.Parent = "eth1" })
			apply(t, p, s)
			if diff := cmp.Diff(strings.ReplaceAll(before, "eth1", "cw-eth1"), text("cw-eth1")); diff != "" {
				t.Errorf("the bridge has not what the NIC had:\n%s", diff)
			}
			if got := strings.TrimSpace(l.host.run("sysctl", "-n", "net.ipv6.conf.cw-eth1.addr_gen_mode")); got != fmt.Sprint(mode) {
				t.Errorf("the bridge has mode %s", got)
			}
			l.host.ip("link set cw-eth1 down")
			mends(t, p, s)
			prune(t, p)
			if diff := cmp.Diff(before, text("eth1")); diff != "" {
				t.Errorf("the host is not as it was:\n%s", diff)
			}
		})
	}
}

// TestSettingsGoAlong has the bridge behave as the NIC did, with a filter on
// that drops what comes in through another device than the answer leaves by.
func TestSettingsGoAlong(t *testing.T) {
	l := newLAN(t)
	settings := map[string]string{
		"net.ipv4.conf.%s.rp_filter": "1", "net.ipv4.conf.%s.arp_ignore": "1",
		"net.ipv6.conf.%s.accept_ra": "0", "net.ipv6.conf.%s.accept_redirects": "0",
	}
	for name, value := range settings {
		l.host.run("sysctl", "-qw", fmt.Sprintf(name, "eth0")+"="+value)
	}
	p := newPlane(t, l.host, t.TempDir())
	apply(t, p, segment("phys", nil))
	for name, value := range settings {
		if got := strings.TrimSpace(l.host.run("sysctl", "-n", fmt.Sprintf(name, "cw-eth0"))); got != value {
			t.Errorf("%s is %s, want %s", fmt.Sprintf(name, "cw-eth0"), got, value)
		}
	}
	link := l.host.run("ip", "-d", "link", "show", "cw-eth0")
	for _, want := range []string{
		"mtu 1500", "alias causeway underlay eth0", "forward_delay 0", "stp_state 0", "mcast_snooping 0",
		strings.Fields(l.host.run("ip", "-br", "link", "show", "eth0"))[2], // the MAC
	} {
		if !strings.Contains(link, want) {
			t.Errorf("the bridge lacks %q:\n%s", want, link)
		}
	}
	l.router.reaches("192.0.2.10")
	l.host.reaches("198.51.100.1")
}
