package underlay

import (
	"net/netip"
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
	s := segment("phys", nil, e)
	if _, err := p.Apply(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c := l.start(p, s, e)
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
