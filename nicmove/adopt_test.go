package nicmove

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/lantest"
)

// TestJournalIsLost has the next causeway start without what the last one wrote.
func TestJournalIsLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(folder string) error{
		"removed": os.RemoveAll,
		"damaged": func(folder string) error {
			return os.WriteFile(filepath.Join(folder, "cw-eth0.json"), []byte("{"), 0o600)
		},
	} {
		for what, keep := range map[string][]Place{"and goes on": {nic("eth0")}, "and has no network": nil} {
			t.Run(name+" "+what, func(t *testing.T) {
				l := lantest.NewLAN(t)
				l.Host.IP("link add br0 type bridge")
				l.Host.Run("ip", "link", "set", "br0", "alias", mark+"eth0") // without the NIC, not provably ours
				before := l.Host.Text("eth0")
				folder := t.TempDir()
				apply(t, newMover(t, l.Host, folder), nic("eth0"))
				moved := l.Host.Text("cw-eth0")
				if err := lose(folder); err != nil {
					t.Fatal(err)
				}
				p := newMover(t, l.Host, folder)
				if err := p.Recover(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, s := range keep {
					apply(t, p, s)
				}
				prune(t, p, keep...)
				want, device := before, "eth0"
				if keep != nil {
					want, device = moved, "cw-eth0"
				}
				if diff := cmp.Diff(want, l.Host.Text(device)); diff != "" {
					t.Errorf("%s has not what it had:\n%s", device, diff)
				}
				l.Router.Reaches("192.0.2.10")
				prune(t, newMover(t, l.Host, folder)) // it is in the journal again
				if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
					t.Errorf("the host is not as it was:\n%s", diff)
				}
				l.Host.IP("link show br0")
				if bad, _ := filepath.Glob(filepath.Join(folder, "*.bad")); (len(bad) == 1) != (name != "removed") {
					t.Errorf("set aside: %v", bad)
				}
			})
		}
	}
}

// TestRecordOfNothing is JSON, and no record.
func TestRecordOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cw-eth0.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := readRecord(path); err == nil {
		t.Errorf("got %+v", r)
	}
}

func TestAdoptedVLAN(t *testing.T) {
	parent := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Index: 3}}
	vlan := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth0.7", Index: 5, ParentIndex: 3, Alias: mark + "eth0"}, VlanId: 7}
	links := []netlink.Link{parent, vlan}
	if r := adopted(mark, "cw-eth0.7", "eth0", vlan, links); r == nil || r.VLAN != 7 || r.Index != 3 || r.Phase != enslaved {
		t.Errorf("got %+v", r)
	}
	vlan.Alias = ""
	if r := adopted(mark, "cw-eth0.7", "eth0", vlan, links); r != nil {
		t.Errorf("a VLAN that is not ours: %+v", r)
	}
}
