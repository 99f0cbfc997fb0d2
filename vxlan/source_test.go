package vxlan

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/nl"
)

// TestSourceChangesInPlace holds that the device stays when this host's end of an encrypted
// network becomes another: it would lose packets else.
func TestSourceChangesInPlace(t *testing.T) {
	plane := alone(t)
	segment := segmentOf(10)
	segment.VTEP = netip.MustParseAddr("fd01::1")
	for i := range segment.Remote {
		segment.Remote[i].VTEP = netip.MustParseAddr("fd01::2")
	}
	segment.Flood = []netip.Addr{netip.MustParseAddr("fd01::2")}
	device := func() (index int, source string) {
		if _, err := plane.Apply(t.Context(), segment); err != nil {
			t.Fatal(err)
		}
		ns, err := nl.OpenNamespace(plane.path(segment.Network.ID))
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		handle, err := nl.Open(ns)
		if err != nil {
			t.Fatal(err)
		}
		defer handle.Close()
		link, err := handle.Link(tunnelName)
		if err != nil {
			t.Fatal(err)
		}
		return link.Attrs().Index, link.(*netlink.Vxlan).SrcAddr.String()
	}
	before, _ := device()
	segment.VTEP = netip.MustParseAddr("fd02::1")
	after, source := device()
	if before != after || source != "fd02::1" {
		t.Errorf("the device %d became %d and sends from %s", before, after, source)
	}
	if repaired, err := plane.Apply(t.Context(), segment); err != nil || repaired != 0 {
		t.Errorf("then %d objects were repaired: %v", repaired, err)
	}
}
