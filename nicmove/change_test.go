package nicmove

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/internal/lantest"
)

// TestLeaseIsRenewed has a DHCP client go on as if nothing were.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.IP("addr add 192.0.2.14/24 dev eth0 valid_lft 600 preferred_lft 600")
	p := newMover(t, l.Host, t.TempDir())
	s := nic("eth0")
	apply(t, p, s)
	l.Host.IP("addr add 192.0.2.14/24 dev eth0 valid_lft 80000 preferred_lft 80000")
	repairs(t, p, s)
	if got := l.Host.Run("ip", "addr", "show", "dev", "cw-eth0"); !regexp.MustCompile(`192\.0\.2\.14.*\n.*valid_lft (80000|7999\d)sec`).MatchString(got) {
		t.Errorf("the lease was not renewed:\n%s", got)
	}
	l.Router.Reaches("192.0.2.14")
}

// TestBareHostIsReachedAgain has no store, and nobody who could give records.
func TestBareHostIsReachedAgain(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	folder := t.TempDir()
	apply(t, newMover(t, l.Host, folder), nic("eth0"))
	moved := l.Host.Text("cw-eth0")
	l.Host.IP("link del cw-eth0")
	if err := newMover(t, l.Host, folder).Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(moved, l.Host.Text("cw-eth0")); diff != "" {
		t.Errorf("the bridge has not what it had:\n%s", diff)
	}
	l.Router.Reaches("192.0.2.10")
	l.Host.Reaches("2001:db8:ffff::1")
}

func TestNICIsRenamedAndGone(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newMover(t, l.Host, t.TempDir())
	s := nic("eth0")
	apply(t, p, s)
	l.Host.IP("link set eth0 name wan0")
	if lost(t, p, s) {
		t.Error("a new name counts as a loss")
	}
	apply(t, p, s)
	l.Router.Reaches("192.0.2.10")
	prune(t, p)
	if got := l.Host.Text("wan0"); !strings.Contains(got, "192.0.2.10/24") {
		t.Errorf("the NIC has nothing back under its new name:\n%s", got)
	}

	s = nic("wan0")
	apply(t, p, s)
	l.Host.IP("link del wan0")
	if !lost(t, p, s) {
		t.Error("the NIC is gone and nothing is lost")
	}
	want := "parent wan0: no such interface"
	if _, err := p.Ensure(t.Context(), s, false); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	prune(t, p)
	if _, err := l.Host.Command("ip", "link", "show", "cw-wan0"); err == nil {
		t.Error("the bridge is still there")
	}
}

// TestAnotherNICHasTheNameNow has two NICs swap places: the one that was taken
// stays what goes by the record.
func TestAnotherNICHasTheNameNow(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	before := l.Host.Text("eth0")
	p := newMover(t, l.Host, t.TempDir())
	s := nic("eth0")
	apply(t, p, s)
	l.Host.IP("link set eth0 name wan0")
	l.Connect(l.Host, "eth0", "198.51.100.77/24")
	other := l.Host.Text("eth0")
	if lost(t, p, s) {
		t.Error("a new name counts as a loss")
	}
	apply(t, p, s)
	if diff := cmp.Diff(other, l.Host.Text("eth0")); diff != "" {
		t.Errorf("another NIC was taken:\n%s", diff)
	}
	l.Router.Reaches("192.0.2.10")
	prune(t, p)
	if diff := cmp.Diff(other, l.Host.Text("eth0")); diff != "" {
		t.Errorf("another NIC changed:\n%s", diff)
	}
	sorted := func(text string) []string {
		lines := strings.Split(text, "\n")
		slices.Sort(lines)
		return lines
	}
	if diff := cmp.Diff(sorted(strings.ReplaceAll(before, "eth0", "wan0")), sorted(l.Host.Text("wan0"))); diff != "" {
		t.Errorf("the NIC has not got back what it had:\n%s", diff)
	}
}

func TestNICIsInAnotherBridgeNow(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newMover(t, l.Host, t.TempDir())
	s := nic("eth0")
	apply(t, p, s)
	l.Host.IP("link add br0 type bridge\nlink set eth0 master br0")
	want := "parent eth0 was put into br0 by another program"
	if _, err := p.Ensure(t.Context(), s, false); err == nil || err.Error() != want {
		t.Errorf("Apply: got  %v\nwant %s", err, want)
	}
	if err := p.Release("cw-eth0"); err == nil || err.Error() != want {
		t.Errorf("Prune: got  %v\nwant %s", err, want)
	}
	if got := l.Host.Run("ip", "link", "show", "eth0"); !strings.Contains(got, "master br0") {
		t.Errorf("the NIC was taken out of a bridge that is not ours: %s", got)
	}
	l.Host.IP("link set eth0 nomaster")
	prune(t, p)
	l.Router.Reaches("192.0.2.10")
}
