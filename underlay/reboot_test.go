package underlay

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

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

// TestBridgeOfOursByItsName has a network that names the bridge alone, and that
// is left when the one that had it made is gone.
func TestBridgeOfOursByItsName(t *testing.T) {
	l := newLAN(t)
	folder := t.TempDir()
	p := newPlane(t, l.host, folder)
	e := endpoint("e1", "192.0.2.128/24")
	first := segment("first", nil)
	second := segment("second", func(n *fabric.Network) { n.Parent, n.Bridge = "", "cw-eth0" }, e)
	apply(t, p, first)
	apply(t, p, second)
	prune(t, p, second)
	host := l.reboot("192.0.2.10/24")
	var out bytes.Buffer
	p = rebooted(t, host, folder)
	p.log = logger(&out)
	if err := p.Check(t.Context(), second.Network); err != nil {
		t.Error(err)
	}
	apply(t, p, second)
	l.start(p, second, e).reaches("192.0.2.1")
	if text := out.String(); strings.Contains(text, "was not as it has to be") || !strings.Contains(text, "has taken eth0 in") {
		t.Errorf("the log is of a mishap, and it was a boot:\n%s", text)
	}
}

func logger(out io.Writer) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(out)
	return logrus.NewEntry(log)
}

// TestLeaseIsToldOf each time that a DHCP client has to be told where it runs.
func TestLeaseIsToldOf(t *testing.T) {
	l := newLAN(t)
	folder := t.TempDir()
	var p *Plane
	for _, start := range []func(){
		func() { p = newPlane(t, l.host, folder) },
		func() { p = rebooted(t, l.reboot("192.0.2.10/24"), folder) },
	} {
		start()
		l.host.ip("addr add 192.0.2.14/24 dev eth0 valid_lft 600 preferred_lft 600")
		var out bytes.Buffer
		p.log = logger(&out)
		apply(t, p, segment("phys", nil))
		want := "address 192.0.2.14/24 of eth0 is leased: it runs out on bridge cw-eth0 unless the DHCP client is told to run there"
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("no word of the lease:\n%s", out.String())
		}
	}
}

// forcedOn takes a NIC in that has no carrier.
func forcedOn(parent string) func(*fabric.Network) {
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
		apply(t, newPlane(t, l.host, folder), segment("phys", forcedOn("eth0")))
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
			s := segment("phys", forcedOn("eth1"))
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
