package underlay

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

// linkLocal matches the addresses that go by the MAC.
var linkLocal = regexp.MustCompile(`fe80::[0-9a-f:]+`)

// TestReboot has the kernel forget all, and the journal not.
func TestReboot(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	folder := t.TempDir()
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", nil, e)
	apply(t, newPlane(t, l.Host, folder), s)
	moved := l.Host.Text("cw-eth0")

	host := l.Reboot("192.0.2.10/24", "2001:db8:1::10/64")
	host.IP("route add default via 192.0.2.1\n-6 route add default via 2001:db8:1::1 dev eth0")
	before := host.Text("eth0")
	p := rebooted(t, host, folder, t.Output())
	if err := p.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, host.Text("eth0")); diff != "" {
		t.Errorf("before the records are read, the host changed:\n%s", diff)
	}
	apply(t, p, s)
	withoutMAC := func(text string) string { return linkLocal.ReplaceAllString(text, "fe80::…") }
	if diff := cmp.Diff(withoutMAC(moved), withoutMAC(host.Text("cw-eth0"))); diff != "" {
		t.Errorf("the bridge is not as before the reboot:\n%s", diff)
	}
	c := start(l, p, s, e)
	c.Reaches("192.0.2.1")
	prune(t, p)
	if diff := cmp.Diff(before, host.Text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
}

// TestBridgeOfOursByItsName has a network that names the bridge alone, and that
// is left when the one that had it made is gone.
func TestBridgeOfOursByItsName(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	folder := t.TempDir()
	p := newPlane(t, l.Host, folder)
	e := endpoint("e1", "192.0.2.128/24")
	first := segment("first", nil)
	second := segment("second", func(n *fabric.Network) { n.Parent, n.Bridge = "", "cw-eth0" }, e)
	apply(t, p, first)
	apply(t, p, second)
	prune(t, p, second)
	host := l.Reboot("192.0.2.10/24")
	var out bytes.Buffer
	p = rebooted(t, host, folder, &out)
	if err := p.Check(t.Context(), second.Network); err != nil {
		t.Error(err)
	}
	apply(t, p, second)
	start(l, p, second, e).Reaches("192.0.2.1")
	if text := out.String(); strings.Contains(text, "found changed") || !strings.Contains(text, "has enslaved eth0") {
		t.Errorf("the log tells of a repair, and it was a boot:\n%s", text)
	}
}
