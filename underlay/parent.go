package underlay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// checkParent refuses links that cannot be, or are already, a port.
func (p *Plane) checkParent(ctx context.Context, parent netlink.Link) error {
	attrs := parent.Attrs()
	if parent.Type() == "bridge" {
		return refusal(parent, "it is a bridge itself; use -o bridge=%s", attrs.Name)
	}
	if err := checkKind(parent); err != nil {
		return err
	}
	if p.inUse != nil {
		if bridge := p.inUse(ctx, attrs.Name); bridge != "" {
			return refusal(parent, "it is in the Open vSwitch bridge %s already", bridge)
		}
	}
	if attrs.MasterIndex != 0 {
		master, err := p.kernel.LinkByIndex(attrs.MasterIndex)
		if err != nil {
			return refusal(parent, "it is in another device")
		}
		return inMaster(parent, master)
	}
	links, err := p.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if kind := link.Type(); link.Attrs().ParentIndex == attrs.Index && (kind == "macvlan" || kind == "macvtap" || kind == "ipvlan") {
			return refusal(parent, "the %s %s is on it", kind, link.Attrs().Name)
		}
	}
	return nil
}

func refusal(parent netlink.Link, format string, args ...any) error {
	return fmt.Errorf("parent %s cannot be taken: %s", parent.Attrs().Name, fmt.Sprintf(format, args...))
}

// checkKind refuses links that hear and send too little for a container to be
// behind them, or to have a VLAN.
func checkKind(parent netlink.Link) error {
	attrs := parent.Attrs()
	switch {
	case attrs.RawFlags&unix.IFF_LOOPBACK != 0:
		return refusal(parent, "it is the loopback")
	case attrs.EncapType != "ether":
		return refusal(parent, "it is no Ethernet device but %s", attrs.EncapType)
	case parent.Type() == "macvlan" || parent.Type() == "ipvlan":
		return refusal(parent, "a %s hears no frames but its own", parent.Type())
	case isWireless(attrs.Name):
		return refusal(parent, "it is wireless, and an access point takes frames of the station's own MAC only")
	}
	return nil
}

// inMaster tells what to do about the device that has the parent already.
func inMaster(parent, master netlink.Link) error {
	name := master.Attrs().Name
	switch kind := master.Type(); kind {
	case "bridge":
		return refusal(parent, "it is in bridge %s already; use -o bridge=%[1]s", name)
	case "bond", "team":
		return refusal(parent, "it is in the %s %s already; take that as the parent", kind, name)
	case "openvswitch": // all ports of all bridges are in one device
		return refusal(parent, "it is in an Open vSwitch bridge already")
	default:
		return refusal(parent, "it is in the %s %s already", kind, name)
	}
}

// isWireless asks cfg80211, which links each of its devices to its radio.
func isWireless(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "phy80211"))
	return err == nil
}
