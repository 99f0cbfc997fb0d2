package nicmove

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/lantest"
)

// newTagger has a macvlan device in a VLAN's place: the tests' kernel may have no
// 802.1q, and what is tested here is the same for both.
func newTagger(t *testing.T, host *lantest.Machine, folder string) *Mover {
	t.Helper()
	m := newMover(t, host, folder)
	m.kernel.vlan = func(attrs netlink.LinkAttrs, _ int) netlink.Link {
		return &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	}
	return m
}

func TestVLANsPortIsMadeAndMoved(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	links := func() string { return l.Host.Run("ip", "-br", "link") + l.Host.Text("eth0") }
	before := links()
	nicText := l.Host.Text("eth0")
	folder := t.TempDir()
	place := Place{Bridge: "cw-eth0.7", Parent: "eth0", VLAN: 7, Port: "eth0.7"}
	m := newTagger(t, l.Host, folder)
	apply(t, m, place)
	port := l.Host.Run("ip", "-d", "link", "show", "eth0.7")
	for _, want := range []string{"master cw-eth0.7", "alias " + mark + "eth0", ",UP"} {
		if !strings.Contains(port, want) {
			t.Errorf("the port lacks %q:\n%s", want, port)
		}
	}
	for _, device := range []string{"cw-eth0.7", "eth0.7"} {
		for path, want := range map[string]string{"ipv6/conf/%s/disable_ipv6": "1", "ipv4/conf/%s/arp_ignore": "8"} {
			path = fmt.Sprintf("net/"+path, device)
			if got := strings.TrimSpace(l.Host.Run("sysctl", "-n", path)); got != want {
				t.Errorf("%s is %s", path, got)
			}
		}
		if got := l.Host.Run("ip", "-br", "addr", "show", "dev", device); len(strings.Fields(got)) > 2 {
			t.Errorf("the host has addresses there: %s", got)
		}
	}
	if diff := cmp.Diff(nicText, l.Host.Text("eth0")); diff != "" {
		t.Errorf("the NIC changed:\n%s", diff)
	}
	// A container that knows the bridge's MAC sends to the host's own address.
	c := lantest.NewMachine(t, "container")
	l.Host.Run("ip", "link", "add", "c0", "type", "veth", "peer", "name", "eth0", "netns", c.Path())
	l.Host.IP("link set c0 master cw-eth0.7 up")
	c.IP(`link set eth0 up
		addr add 198.51.100.5/24 dev eth0
		route add 192.0.2.10 dev eth0
		neigh add 192.0.2.10 dev eth0 lladdr ` + l.Host.Link("cw-eth0.7").Attrs().HardwareAddr.String())
	echoes := func() string { // that the host's stack took
		_, counters, _ := strings.Cut(l.Host.Run("cat", "/proc/net/snmp"), "\nIcmp: ")
		return strings.Fields(strings.Split(counters, "\n")[1])[9]
	}
	l.Router.Reaches("192.0.2.10")
	asked := echoes()
	_, _ = c.Command("ping", "-n", "-c3", "-i0.2", "-W1", "192.0.2.10")
	if got := echoes(); got != asked {
		t.Errorf("the host's stack took what a container sent: %s echo requests, and %s before", got, asked)
	}
	l.Host.IP("link del c0\nlink set eth0.7 nomaster")
	repairs(t, m, place)
	l.Host.IP("link del eth0.7")
	repairs(t, m, place)
	prune(t, m)
	if diff := cmp.Diff(before, links()); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	if files, _ := os.ReadDir(folder); len(files) > 0 {
		t.Errorf("the journal has %v", files)
	}
}

// TestVLANIsKilledAtAnyStep breaks off each step of both ways; the next start
// finishes or, when the network was removed meanwhile, leaves nothing behind.
func TestVLANIsKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	links := func() string { return l.Host.Run("ip", "-br", "link") + l.Host.Text("eth0") }
	before := links()
	place := Place{Bridge: "cw-eth0.7", Parent: "eth0", VLAN: 7, Port: "eth0.7"}
	folder := t.TempDir()
	brokenOff := func(n int, work func(*Mover) error) (ended bool) {
		m := newTagger(t, l.Host, folder)
		type killed struct{}
		m.kernel.step = func(string) {
			if n--; n < 0 {
				panic(killed{})
			}
		}
		defer func() {
			if r := recover(); r != nil && r != (killed{}) {
				panic(r)
			}
		}()
		if err := work(m); err != nil {
			t.Fatal(err)
		}
		return true
	}
	ensure := func(m *Mover) error { _, err := m.Ensure(t.Context(), place, true); return err }
	release := func(m *Mover) error { return m.Release(place.Bridge) }
	for _, recover := range []bool{true, false} {
		for what, work := range map[string]func(*Mover) error{"ensure": ensure, "release": release} {
			for n, ended := 0, false; !ended; n++ {
				if what == "release" {
					apply(t, newTagger(t, l.Host, folder), place)
				}
				ended = brokenOff(n, work)
				m := newTagger(t, l.Host, folder)
				if recover {
					if err := m.Recover(t.Context()); err != nil {
						t.Fatalf("%s, killed before step %d: %v", what, n, err)
					}
					if what == "ensure" && n > 0 && lost(t, m, place) {
						t.Fatalf("%s, killed before step %d: not finished", what, n)
					}
				}
				prune(t, m)
				if diff := cmp.Diff(before, links()); diff != "" {
					t.Fatalf("%s, killed before step %d: the host is not as it was:\n%s", what, n, diff)
				}
			}
		}
	}
}
