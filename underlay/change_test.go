package underlay

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

// mends has the plane find out by itself, and mend.
func mends(t *testing.T, p *Plane, s fabric.Segment) {
	t.Helper()
	if !p.Drifted(t.Context()) {
		t.Error("the plane is not stale")
	}
	p.Invalidate()
	if mended, err := p.Apply(t.Context(), s); mended == 0 || err != nil {
		t.Fatalf("mended %d, %v", mended, err)
	}
	if p.Drifted(t.Context()) {
		t.Error("the plane is stale after Apply")
	}
	if mended, err := p.Apply(t.Context(), s); mended != 0 || err != nil {
		t.Errorf("a second Apply mended %d, %v", mended, err)
	}
}

// TestWhatAUserBreaksIsMended breaks the move by hand, in each way.
func TestWhatAUserBreaksIsMended(t *testing.T) {
	for name, harm := range map[string]string{
		"bridge removed":         "link del cw-eth0",
		"bridge set down":        "link set cw-eth0 down",
		"NIC taken out":          "link set eth0 nomaster",
		"address back on NIC":    "addr add 192.0.2.10/24 dev eth0",
		"container's port moved": "link set PORT nomaster",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			before := l.host.text("eth0")
			p := newPlane(t, l.host, t.TempDir())
			e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
			s := segment("phys", nil, e)
			apply(t, p, s)
			c := l.start(p, s, e)
			c.reaches("192.0.2.1")
			p.Invalidate()
			apply(t, p, s) // the container is up: announced
			ports := l.host.run("ip", "-br", "link", "show", "type", "veth", "master", "cw-eth0")
			for word := range strings.FieldsSeq(ports) {
				if end, _, found := strings.Cut(word, "@"); found && end != "eth0" {
					harm = strings.ReplaceAll(harm, "PORT", end)
				}
			}
			l.host.ip(harm)
			if strings.Contains(harm, "nomaster") && !strings.Contains(harm, "eth0") {
				p.Invalidate()
				apply(t, p, s)
			} else {
				mends(t, p, s)
			}
			l.router.reaches("192.0.2.10")
			l.router.reaches("2001:db8:1::10")
			l.router.reaches("192.0.2.128")
			l.host.reaches("198.51.100.1")
			l.host.reaches("2001:db8:ffff::1")
			prune(t, p)
			if diff := cmp.Diff(before, l.host.text("eth0")); diff != "" {
				t.Errorf("the host is not as it was:\n%s", diff)
			}
		})
	}
}

// TestLeaseIsRenewed has a DHCP client go on as if nothing were.
func TestLeaseIsRenewed(t *testing.T) {
	l := newLAN(t)
	l.host.ip("addr add 192.0.2.14/24 dev eth0 valid_lft 600 preferred_lft 600")
	p := newPlane(t, l.host, t.TempDir())
	s := segment("phys", nil)
	apply(t, p, s)
	l.host.ip("addr add 192.0.2.14/24 dev eth0 valid_lft 80000 preferred_lft 80000")
	mends(t, p, s)
	if got := l.host.run("ip", "addr", "show", "dev", "cw-eth0"); !regexp.MustCompile(`192\.0\.2\.14.*\n.*valid_lft (80000|7999\d)sec`).MatchString(got) {
		t.Errorf("the lease was not renewed:\n%s", got)
	}
	l.router.reaches("192.0.2.14")
}

// TestBareHostIsReachedAgain has no store, and nobody who could give records.
func TestBareHostIsReachedAgain(t *testing.T) {
	l := newLAN(t)
	folder := t.TempDir()
	apply(t, newPlane(t, l.host, folder), segment("phys", nil))
	moved := l.host.text("cw-eth0")
	l.host.ip("link del cw-eth0")
	if err := newPlane(t, l.host, folder).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(moved, l.host.text("cw-eth0")); diff != "" {
		t.Errorf("the bridge has not what it had:\n%s", diff)
	}
	l.router.reaches("192.0.2.10")
	l.host.reaches("2001:db8:ffff::1")
}

func TestNICIsRenamedAndGone(t *testing.T) {
	l := newLAN(t)
	p := newPlane(t, l.host, t.TempDir())
	s := segment("phys", nil)
	apply(t, p, s)
	l.host.ip("link set eth0 name wan0")
	if p.Drifted(t.Context()) {
		t.Error("a new name made the plane stale")
	}
	p.Invalidate()
	apply(t, p, s)
	l.router.reaches("192.0.2.10")
	prune(t, p)
	if got := l.host.text("wan0"); !strings.Contains(got, "192.0.2.10/24") {
		t.Errorf("the NIC has nothing back under its new name:\n%s", got)
	}

	s = segment("phys", func(n *fabric.Network) { n.Parent = "wan0" })
	apply(t, p, s)
	l.host.ip("link del wan0")
	if !p.Drifted(t.Context()) {
		t.Error("the NIC is gone and the plane is not stale")
	}
	p.Invalidate()
	want := "underlay: parent wan0: no such interface"
	if _, err := p.Apply(t.Context(), s); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	prune(t, p)
	if _, err := l.host.command("ip", "link", "show", "cw-wan0"); err == nil {
		t.Error("the bridge is still there")
	}
}

// TestAnotherNICHasTheNameNow has two NICs swap places: the one that was taken
// stays what goes by the record.
func TestAnotherNICHasTheNameNow(t *testing.T) {
	l := newLAN(t)
	before := l.host.text("eth0")
	p := newPlane(t, l.host, t.TempDir())
	s := segment("phys", nil)
	apply(t, p, s)
	l.host.ip("link set eth0 name wan0")
	l.connect(l.host, "eth0", "198.51.100.77/24")
	other := l.host.text("eth0")
	if p.Drifted(t.Context()) {
		t.Error("a new name made the plane stale")
	}
	p.Invalidate()
	apply(t, p, s)
	if diff := cmp.Diff(other, l.host.text("eth0")); diff != "" {
		t.Errorf("another NIC was taken:\n%s", diff)
	}
	l.router.reaches("192.0.2.10")
	prune(t, p)
	if diff := cmp.Diff(other, l.host.text("eth0")); diff != "" {
		t.Errorf("another NIC changed:\n%s", diff)
	}
	sorted := func(text string) []string {
		lines := strings.Split(text, "\n")
		slices.Sort(lines)
		return lines
	}
	if diff := cmp.Diff(sorted(strings.ReplaceAll(before, "eth0", "wan0")), sorted(l.host.text("wan0"))); diff != "" {
		t.Errorf("the NIC has not got back what it had:\n%s", diff)
	}
}

// timers matches the clocks of a bridge.
var timers = regexp.MustCompile(`timer +[0-9.]+`)

func TestNICIsInAnotherBridgeNow(t *testing.T) {
	l := newLAN(t)
	p := newPlane(t, l.host, t.TempDir())
	s := segment("phys", nil)
	apply(t, p, s)
	l.host.ip("link add br0 type bridge\nlink set eth0 master br0")
	p.Invalidate()
	want := "underlay: parent eth0 was put into br0 by somebody else"
	if _, err := p.Apply(t.Context(), s); err == nil || err.Error() != want {
		t.Errorf("Apply: got  %v\nwant %s", err, want)
	}
	if err := p.Prune(t.Context(), nil); err == nil || err.Error() != want {
		t.Errorf("Prune: got  %v\nwant %s", err, want)
	}
	if got := l.host.run("ip", "link", "show", "eth0"); !strings.Contains(got, "master br0") {
		t.Errorf("the NIC was taken out of a bridge that is not ours: %s", got)
	}
	l.host.ip("link set eth0 nomaster")
	prune(t, p)
	l.router.reaches("192.0.2.10")
}

func TestNetworksShareAParent(t *testing.T) {
	l := newLAN(t)
	before := l.host.text("eth0")
	p := newPlane(t, l.host, t.TempDir())
	e1, e2 := endpoint("e1", "192.0.2.128/24"), endpoint("e2", "192.0.2.129/24")
	one, two := segment("one", nil, e1), segment("two", nil, e2)
	apply(t, p, one)
	apply(t, p, two)
	a, b := l.start(p, one, e1), l.start(p, two, e2)
	a.reaches("192.0.2.129")
	prune(t, p, two)
	b.reaches("192.0.2.1")
	if _, err := a.command("ip", "link", "show", "eth0"); err == nil {
		t.Error("the container of the removed network still has its link")
	}
	prune(t, p)
	if diff := cmp.Diff(before, l.host.text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
}

// TestContainerDiesUnheard has a link go before its neighbours were told of it.
func TestContainerDiesUnheard(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Plane, fabric.Segment){"Apply": apply, "Prune": func(t *testing.T, p *Plane, s fabric.Segment) { prune(t, p, s) }} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			p := newPlane(t, l.host, t.TempDir())
			e := endpoint("e1", "192.0.2.128/24")
			s := segment("phys", nil, e)
			apply(t, p, s)
			l.start(p, s, e).ip("link del eth0")
			end(t, p, segment("phys", nil))
			if len(p.unheard) > 0 {
				t.Errorf("still to be announced: %v", p.unheard)
			}
		})
	}
}

func TestForeignBridgeStaysAsItIs(t *testing.T) {
	l := newLAN(t)
	l.host.ip(`link add br0 type bridge forward_delay 0
		link set br0 up
		link set eth0 master br0
		addr flush dev eth0
		addr add 192.0.2.10/24 dev br0`)
	l.host.settled()
	text := func() string {
		link := timers.ReplaceAllString(l.host.run("ip", "-d", "link", "show", "br0"), "timer")
		return link + l.host.text("br0") + l.host.text("eth0")
	}
	before := text()
	folder := t.TempDir()
	p := newPlane(t, l.host, folder)
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", func(n *fabric.Network) { n.Parent, n.Bridge, n.MTU = "", "br0", 1400 }, e)
	if err := p.Check(t.Context(), s.Network); err != nil {
		t.Fatal(err)
	}
	apply(t, p, s)
	c := l.start(p, s, e)
	c.reaches("192.0.2.1")
	l.plain.reaches("192.0.2.128")
	if got := l.host.mtu("br0"); got != "1500" {
		t.Errorf("with a container of a smaller MTU, the bridge has MTU %s", got)
	}
	large := s.Network
	large.MTU = 1501
	want := "underlay: option mtu=1501 is more than the 1500 of bridge br0"
	if err := p.Check(t.Context(), large); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	alive, err := p.Alive(t.Context(), s)
	if !alive["e1"] || err != nil {
		t.Errorf("alive: %v, %v", alive, err)
	}
	prune(t, p)
	if diff := cmp.Diff(before, text()); diff != "" {
		t.Errorf("the bridge changed:\n%s", diff)
	}
	if files, _ := os.ReadDir(folder); len(files) > 0 {
		t.Errorf("the journal has %v", files)
	}
}
