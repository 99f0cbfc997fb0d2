package underlay

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

// linkLocal matches the addresses that go by the MAC.
var linkLocal = regexp.MustCompile(`fe80::[0-9a-f:]+`)

// reboot gives the host a kernel that has forgotten all.
func (l *lan) reboot(addrs ...string) *machine {
	l.t.Helper()
	l.sw.ip("link del p1") // the old host's cable
	l.host = newMachine(l.t, "host")
	l.connect(l.host, "eth0", addrs...)
	return l.host
}

// rebooted is the plane that starts after it.
func rebooted(t *testing.T, host *machine, folder string) *Plane {
	t.Helper()
	p := newPlane(t, host, folder)
	p.boot = "another"
	return p
}

// TestReboot has the kernel forget all, and the journal not.
func TestReboot(t *testing.T) {
	l := newLAN(t)
	folder := t.TempDir()
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", nil, e)
	apply(t, newPlane(t, l.host, folder), s)
	moved := l.host.text("cw-eth0")

	host := l.reboot("192.0.2.10/24", "2001:db8:1::10/64")
	host.ip("route add default via 192.0.2.1\n-6 route add default via 2001:db8:1::1 dev eth0")
	before := host.text("eth0")
	p := rebooted(t, host, folder)
	if err := p.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, host.text("eth0")); diff != "" {
		t.Errorf("before the records are read, the host changed:\n%s", diff)
	}
	apply(t, p, s)
	withoutMAC := func(text string) string { return linkLocal.ReplaceAllString(text, "fe80::…") }
	if diff := cmp.Diff(withoutMAC(moved), withoutMAC(host.text("cw-eth0"))); diff != "" {
		t.Errorf("the bridge is not as before the reboot:\n%s", diff)
	}
	c := l.start(p, s, e)
	c.reaches("192.0.2.1")
	prune(t, p)
	if diff := cmp.Diff(before, host.text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
}

// TestNetworkIsRemovedWhileTheHostIsDown has nothing to give back after the boot.
func TestNetworkIsRemovedWhileTheHostIsDown(t *testing.T) {
	l := newLAN(t)
	folder := t.TempDir()
	apply(t, newPlane(t, l.host, folder), segment("phys", nil))
	host := l.reboot("192.0.2.33/24")
	before := host.text("eth0")
	p := rebooted(t, host, folder)
	prune(t, p)
	if diff := cmp.Diff(before, host.text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	if files, _ := os.ReadDir(folder); len(files) > 0 {
		t.Errorf("the journal has %v", files)
	}
}

// forced takes a NIC in that has no carrier.
func forced(parent string) func(*fabric.Network) {
	return func(n *fabric.Network) { n.Parent, n.Options = parent, map[string]string{"force": "true"} }
}

func (m *machine) isUp(device string) bool {
	m.t.Helper()
	return strings.Contains(m.run("ip", "-o", "link", "show", "dev", device), ",UP")
}

// TestNICThatWasDownAndIsNeededNow has a reason to leave it up, each time another.
func TestNICThatWasDownAndIsNeededNow(t *testing.T) {
	t.Run("after a reboot", func(t *testing.T) {
		l := newLAN(t)
		l.host.ip("link set eth0 down")
		folder := t.TempDir()
		apply(t, newPlane(t, l.host, folder), segment("phys", forced("eth0")))
		host := l.reboot("192.0.2.33/24")
		before := host.text("eth0")
		prune(t, rebooted(t, host, folder))
		if diff := cmp.Diff(before, host.text("eth0")); diff != "" || !host.isUp("eth0") {
			t.Errorf("the host is not as it was:\n%s", diff)
		}
	})
	for name, change := range map[string]string{
		"for an address of the bridge's": "addr add 192.0.2.55/24 dev cw-eth1",
		"for an address of its own":      "addr add 192.0.2.55/24 dev eth1",
		"for one before a new take":      "addr add 192.0.2.55/24 dev cw-eth1\nlink set cw-eth1 down",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			l.connect(l.host, "eth1")
			l.host.ip("link set eth1 down")
			p := newPlane(t, l.host, t.TempDir())
			s := segment("phys", forced("eth1"))
			apply(t, p, s)
			l.host.ip(change)
			if strings.Contains(change, "down") {
				mends(t, p, s)
			}
			prune(t, p)
			if !l.host.isUp("eth1") {
				t.Error("the NIC was set down")
			}
			l.router.reaches("192.0.2.55")
		})
	}
}
