package nicmove

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/internal/lantest"
)

// rebooted is the mover that starts after a reboot.
func rebooted(t *testing.T, host *lantest.Machine, folder string) *Mover {
	t.Helper()
	m := newMover(t, host, folder)
	m.Boot = "another"
	return m
}

// TestNetworkIsRemovedWhileTheHostIsDown has nothing to release after the boot.
func TestNetworkIsRemovedWhileTheHostIsDown(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	folder := t.TempDir()
	apply(t, newMover(t, l.Host, folder), nic("eth0"))
	host := l.Reboot("192.0.2.33/24")
	before := host.Text("eth0")
	p := rebooted(t, host, folder)
	prune(t, p)
	if diff := cmp.Diff(before, host.Text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	if files, _ := os.ReadDir(folder); len(files) > 0 {
		t.Errorf("the journal has %v", files)
	}
}

// TestLeaseIsToldOf each time that a DHCP client has to be told where it runs.
func TestLeaseIsToldOf(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	folder := t.TempDir()
	var p *Mover
	for _, start := range []func(){
		func() { p = newMover(t, l.Host, folder) },
		func() { p = rebooted(t, l.Reboot("192.0.2.10/24"), folder) },
	} {
		start()
		l.Host.IP("addr add 192.0.2.14/24 dev eth0 valid_lft 600 preferred_lft 600")
		var out bytes.Buffer
		p.Log = logger(&out)
		apply(t, p, nic("eth0"))
		want := "address 192.0.2.14/24 of eth0 is leased: it runs out on bridge cw-eth0 unless the DHCP client is told to run there"
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("the lease is not warned of:\n%s", out.String())
		}
	}
}

// TestNICThatWasDownAndIsNeededNow has a reason to leave it up, each time another.
func TestNICThatWasDownAndIsNeededNow(t *testing.T) {
	t.Parallel()
	t.Run("after a reboot", func(t *testing.T) {
		l := lantest.NewLAN(t)
		l.Host.IP("link set eth0 down")
		folder := t.TempDir()
		apply(t, newMover(t, l.Host, folder), nic("eth0"))
		host := l.Reboot("192.0.2.33/24")
		before := host.Text("eth0")
		prune(t, rebooted(t, host, folder))
		if diff := cmp.Diff(before, host.Text("eth0")); diff != "" || !host.IsUp("eth0") {
			t.Errorf("the host is not as it was:\n%s", diff)
		}
	})
	for name, change := range map[string]string{
		"for an address of the bridge's": "addr add 192.0.2.55/24 dev cw-eth1",
		"for an address of its own":      "addr add 192.0.2.55/24 dev eth1",
		"for one before a new take":      "addr add 192.0.2.55/24 dev cw-eth1\nlink set cw-eth1 down",
	} {
		t.Run(name, func(t *testing.T) {
			l := lantest.NewLAN(t)
			l.Connect(l.Host, "eth1")
			l.Host.IP("link set eth1 down")
			p := newMover(t, l.Host, t.TempDir())
			s := nic("eth1")
			apply(t, p, s)
			l.Host.IP(change)
			if strings.Contains(change, "down") {
				repairs(t, p, s)
			}
			prune(t, p)
			if !l.Host.IsUp("eth1") {
				t.Error("the NIC was set down")
			}
			l.Router.Reaches("192.0.2.55")
		})
	}
}
