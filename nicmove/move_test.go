package nicmove

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/internal/lantest"
)

// TestLinkLocalAddressGoesAlong has one that goes by more than the MAC, and the
// bridge be tempted to make another.
func TestLinkLocalAddressGoesAlong(t *testing.T) {
	t.Parallel()
	for mode, what := range []string{"by MAC", "by hand", "by secret", "at random"} {
		t.Run(what, func(t *testing.T) {
			l := lantest.NewLAN(t)
			l.Connect(l.Host, "eth1", "203.0.113.10/24")
			l.Host.IP("link set eth1 down")
			l.Host.Run("sysctl", "-qw", "net.ipv6.conf.eth1.stable_secret=fd00::1")
			l.Host.Run("sysctl", "-qw", fmt.Sprint("net.ipv6.conf.eth1.addr_gen_mode=", mode))
			l.Host.IP("link set eth1 up")
			l.Host.Settled("eth1")
			// The kernel takes no such flag from anybody.
			text := func(device string) string {
				return strings.ReplaceAll(l.Host.Text(device), "stable-privacy ", "")
			}
			before := text("eth1")
			p := newMover(t, l.Host, t.TempDir())
			s := nic("eth1")
			apply(t, p, s)
			if diff := cmp.Diff(strings.ReplaceAll(before, "eth1", "cw-eth1"), text("cw-eth1")); diff != "" {
				t.Errorf("the bridge has not what the NIC had:\n%s", diff)
			}
			if got := strings.TrimSpace(l.Host.Run("sysctl", "-n", "net.ipv6.conf.cw-eth1.addr_gen_mode")); got != fmt.Sprint(mode) {
				t.Errorf("the bridge has mode %s", got)
			}
			l.Host.IP("link set cw-eth1 down")
			repairs(t, p, s)
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
	t.Parallel()
	l := lantest.NewLAN(t)
	settings := map[string]string{
		"net.ipv4.conf.%s.rp_filter": "1", "net.ipv4.conf.%s.arp_ignore": "1",
		"net.ipv6.conf.%s.accept_ra": "0", "net.ipv6.conf.%s.accept_redirects": "0",
	}
	for name, value := range settings {
		l.Host.Run("sysctl", "-qw", fmt.Sprintf(name, "eth0")+"="+value)
	}
	p := newMover(t, l.Host, t.TempDir())
	apply(t, p, nic("eth0"))
	for name, value := range settings {
		if got := strings.TrimSpace(l.Host.Run("sysctl", "-n", fmt.Sprintf(name, "cw-eth0"))); got != value {
			t.Errorf("%s is %s, want %s", fmt.Sprintf(name, "cw-eth0"), got, value)
		}
	}
	link := l.Host.Run("ip", "-d", "link", "show", "cw-eth0")
	for _, want := range []string{
		"mtu 1500", "alias causeway test eth0", "forward_delay 0", "stp_state 0", "mcast_snooping 0",
		strings.Fields(l.Host.Run("ip", "-br", "link", "show", "eth0"))[2], // the MAC
	} {
		if !strings.Contains(link, want) {
			t.Errorf("the bridge lacks %q:\n%s", want, link)
		}
	}
	l.Router.Reaches("192.0.2.10")
	l.Host.Reaches("198.51.100.1")
}
