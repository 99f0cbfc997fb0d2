package underlay

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newPlane is the host's causeway, with the folder of its journal.
func newPlane(t *testing.T, host *lantest.Machine, folder string) *Plane {
	t.Helper()
	return openPlane(t, Config{HostNS: host.NS, Journal: folder, Log: logger(t.Output())})
}

func openPlane(t *testing.T, config Config) *Plane {
	t.Helper()
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	p.mover.ConfirmLimit = 1500 * time.Millisecond
	return p
}

func logger(out io.Writer) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(out)
	return logrus.NewEntry(log)
}

// rebooted is the plane that starts after a reboot.
func rebooted(t *testing.T, host *lantest.Machine, folder string, out io.Writer) *Plane {
	t.Helper()
	return openPlane(t, Config{HostNS: host.NS, Journal: folder, Boot: "another", Log: logger(out)})
}

func segment(name string, set func(*fabric.Network), local ...fabric.Endpoint) fabric.Segment {
	s := fabric.Segment{
		Network: fabric.Network{ID: name, Name: name, Mode: fabric.ModeUnderlay, Parent: "eth0"},
		MTU:     1450, Local: local,
	}
	if set != nil {
		set(&s.Network)
	}
	return s
}

func endpoint(id string, addrs ...string) fabric.Endpoint {
	e := fabric.Endpoint{ID: id, Network: "phys", Host: "h1"}
	for _, addr := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParsePrefix(addr))
	}
	e.MAC = fabric.DeriveMAC("phys", e.Addrs[0].Addr())
	return e
}

// start does what Docker does with the link that Plug made: it moves it into the
// container, gives it its addresses, and sets it up.
func start(l *lantest.LAN, p *Plane, s fabric.Segment, endpoint fabric.Endpoint) *lantest.Machine {
	l.T.Helper()
	link, err := p.Plug(l.T.Context(), s, endpoint)
	if err != nil {
		l.T.Fatal(err)
	}
	c := lantest.NewMachine(l.T, "container "+endpoint.ID)
	l.Host.IP("link set " + link + " netns " + c.Path())
	c.IP("link set " + link + " name eth0 up")
	for _, addr := range endpoint.Addrs {
		nodad := ""
		if addr.Addr().Is6() {
			nodad = " nodad"
		}
		c.IP("addr add " + addr.String() + " dev eth0" + nodad)
	}
	return c
}

func apply(t *testing.T, p *Plane, s fabric.Segment) {
	t.Helper()
	if _, err := p.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func prune(t *testing.T, p *Plane, keep ...fabric.Segment) {
	t.Helper()
	if err := p.Prune(t.Context(), keep); err != nil {
		t.Fatal(err)
	}
}

// repairs has the plane find out by itself, and repair.
func repairs(t *testing.T, p *Plane, s fabric.Segment) {
	t.Helper()
	if len(p.lostLinks(t.Context())) == 0 {
		t.Error("the plane sees nothing lost")
	}
	if repaired, err := p.Apply(t.Context(), s); repaired == 0 || err != nil {
		t.Fatalf("repaired %d, %v", repaired, err)
	}
	if lost := p.lostLinks(t.Context()); len(lost) > 0 {
		t.Errorf("lost after Apply: %v", lost)
	}
	p.Invalidate()
	if repaired, err := p.Apply(t.Context(), s); repaired != 0 || err != nil {
		t.Errorf("a second Apply repaired %d, %v", repaired, err)
	}
}
