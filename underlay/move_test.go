package underlay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

func TestMoveAndBack(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	before := l.Host.Text("eth0")
	p := newPlane(t, l.Host, t.TempDir())
	e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
	s := segment("phys", func(n *fabric.Network) { n.MTU = 1400 }, e)
	if _, err := p.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c := start(l, p, s, e)
	if got := c.MTU("eth0"); got != "1400" {
		t.Errorf("the container has MTU %s", got)
	}
	if got := l.Host.MTU("cw-eth0"); got != "1500" {
		t.Errorf("with a container of a smaller MTU, the host has MTU %s", got)
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.200", "192.0.2.10", "2001:db8:1::1", "2001:db8:1::200", "2001:db8:1::10"} {
		c.Reaches(addr)
	}
	for _, m := range []*lantest.Machine{l.Router, l.Plain, l.Host} {
		m.Reaches("192.0.2.128")
		m.Reaches("2001:db8:1::128")
	}
	l.Host.Reaches("198.51.100.1")
	l.Host.Reaches("2001:db8:ffff::1")
	end := hostEnd(l, "cw-eth0") // nothing of the host answers on it, should it lose its bridge
	for setting, want := range map[string]string{"net.ipv6.conf.%s.disable_ipv6": "1", "net.ipv4.conf.%s.arp_ignore": "8"} {
		if got := strings.TrimSpace(l.Host.Run("sysctl", "-n", fmt.Sprintf(setting, end))); got != want {
			t.Errorf("%s is %s, want %s", fmt.Sprintf(setting, end), got, want)
		}
	}
	if err := p.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	l.Host.Reaches("198.51.100.1")
	l.Host.Reaches("2001:db8:ffff::1")
}

// TestNoIPv6 has a link too small for IPv6, which the kernel then refuses all
// that is about IPv6, as it does on a host that was booted without.
func TestNoIPv6(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.IP("link set eth0 mtu 1000")
	p := newPlane(t, l.Host, t.TempDir())
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", nil, e)
	apply(t, p, s)
	start(l, p, s, e).Reaches("192.0.2.1")
}
