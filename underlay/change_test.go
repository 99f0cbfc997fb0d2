package underlay

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

// hostEnd is the bridge's port of a container.
func hostEnd(l *lantest.LAN, bridge string) string {
	l.T.Helper()
	for word := range strings.FieldsSeq(l.Host.Run("ip", "-br", "link", "show", "type", "veth", "master", bridge)) {
		if end, _, found := strings.Cut(word, "@"); found && end != "eth0" {
			return end
		}
	}
	l.T.Fatalf("bridge %s has no container", bridge)
	return ""
}

// TestWhatAUserBreaksIsRepaired breaks the move by hand, in each way.
func TestWhatAUserBreaksIsRepaired(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"bridge removed":         "link del cw-eth0",
		"bridge set down":        "link set cw-eth0 down",
		"NIC taken out":          "link set eth0 nomaster",
		"address back on NIC":    "addr add 192.0.2.10/24 dev eth0",
		"container's port moved": "link set PORT nomaster",
	} {
		t.Run(name, func(t *testing.T) {
			l := lantest.NewLAN(t)
			before := l.Host.Text("eth0")
			p := newPlane(t, l.Host, t.TempDir())
			e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
			s := segment("phys", nil, e)
			apply(t, p, s)
			c := start(l, p, s, e)
			c.Reaches("192.0.2.1")
			p.Invalidate()
			apply(t, p, s) // the container is up: announced
			harm = strings.ReplaceAll(harm, "PORT", hostEnd(l, "cw-eth0"))
			l.Host.IP(harm)
			repairs(t, p, s)
			l.Router.Reaches("192.0.2.10")
			l.Router.Reaches("2001:db8:1::10")
			l.Router.Reaches("192.0.2.128")
			l.Host.Reaches("198.51.100.1")
			l.Host.Reaches("2001:db8:ffff::1")
			prune(t, p)
			if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
				t.Errorf("the host is not as it was:\n%s", diff)
			}
		})
	}
}

func TestNetworksShareAParent(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	before := l.Host.Text("eth0")
	p := newPlane(t, l.Host, t.TempDir())
	e1, e2 := endpoint("e1", "192.0.2.128/24"), endpoint("e2", "192.0.2.129/24")
	one, two := segment("one", nil, e1), segment("two", nil, e2)
	apply(t, p, one)
	apply(t, p, two)
	a, b := start(l, p, one, e1), start(l, p, two, e2)
	a.Reaches("192.0.2.129")
	prune(t, p, two)
	b.Reaches("192.0.2.1")
	if _, err := a.Command("ip", "link", "show", "eth0"); err == nil {
		t.Error("the container of the removed network still has its link")
	}
	prune(t, p)
	if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
}

// TestContainerDiesUnheard has a link go before its neighbours were told of it.
func TestContainerDiesUnheard(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *Plane, fabric.Segment){"Apply": apply, "Prune": func(t *testing.T, p *Plane, s fabric.Segment) { prune(t, p, s) }} {
		t.Run(name, func(t *testing.T) {
			l := lantest.NewLAN(t)
			p := newPlane(t, l.Host, t.TempDir())
			e := endpoint("e1", "192.0.2.128/24")
			s := segment("phys", nil, e)
			apply(t, p, s)
			start(l, p, s, e).IP("link del eth0")
			end(t, p, segment("phys", nil))
			if len(p.unheard) > 0 {
				t.Errorf("still to be announced: %v", p.unheard)
			}
		})
	}
}

func TestForeignBridgeStaysAsItIs(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.IP(`link add br0 type bridge forward_delay 0
		link set br0 up
		link set eth0 master br0
		addr flush dev eth0
		addr add 192.0.2.10/24 dev br0`)
	l.Host.Settled("br0")
	text := func() string {
		link := lantest.WithoutTimers(l.Host.Run("ip", "-d", "link", "show", "br0"))
		return link + l.Host.Text("br0") + l.Host.Text("eth0")
	}
	before := text()
	folder := t.TempDir()
	p := newPlane(t, l.Host, folder)
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", func(n *fabric.Network) { n.Parent, n.Bridge, n.MTU = "", "br0", 1400 }, e)
	if err := p.Check(t.Context(), s.Network); err != nil {
		t.Fatal(err)
	}
	apply(t, p, s)
	c := start(l, p, s, e)
	c.Reaches("192.0.2.1")
	l.Plain.Reaches("192.0.2.128")
	if got := l.Host.MTU("br0"); got != "1500" {
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
