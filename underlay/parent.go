package underlay

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/nicmove"
)

// checkParent refuses links that cannot be, or are already, a port.
func (p *Plane) checkParent(ctx context.Context, parent netlink.Link) error {
	attrs := parent.Attrs()
	if parent.Type() == "bridge" {
		return refusal(parent, "it is a bridge itself; use -o bridge=%s", attrs.Name)
	}
	if err := nicmove.CheckKind(parent); err != nil {
		return err
	}
	if p.InUse != nil {
		if bridge := p.InUse(ctx, attrs.Name); bridge != "" {
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
	return fmt.Errorf("parent %s cannot be used: %s", parent.Attrs().Name, fmt.Sprintf(format, args...))
}

// inMaster says which device has the parent already, and what to do about it.
func inMaster(parent, master netlink.Link) error {
	name := master.Attrs().Name
	switch kind := master.Type(); kind {
	case "bridge":
		return refusal(parent, "it is in bridge %s already; use -o bridge=%[1]s", name)
	case "bond", "team":
		return refusal(parent, "it is in the %s %s already; use that as the parent", kind, name)
	case "openvswitch": // all ports of all bridges are in one device
		return refusal(parent, "it is in an Open vSwitch bridge already")
	default:
		return refusal(parent, "it is in the %s %s already", kind, name)
	}
}

// checkVLAN says why the parent cannot have the VLAN device. Whether the kernel
// knows VLANs is asked with a tag that it must refuse: one that does says so of
// the tag, the other of the type.
func (p *Plane) checkVLAN(parent netlink.Link, tag int) error {
	if err := nicmove.CheckKind(parent); err != nil {
		return err
	}
	const invalid = 4095
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "cw-no-vlan", parent.Attrs().Index
	err := p.kernel.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: invalid})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the kernel lacks 802.1q (module 8021q), which -o vlan=%d needs", tag)
	}
	links, err := p.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	return checkTag(links, parent, tag)
}

// checkTag refuses a second device for the same tag, which the kernel would,
// and one of the same name.
func checkTag(links []netlink.Link, parent netlink.Link, tag int) error {
	name := vlanName(parent.Attrs().Name, tag)
	for _, link := range links {
		attrs := link.Attrs()
		vlan, tagged := link.(*netlink.Vlan)
		if tagged && vlan.VlanId == tag && attrs.ParentIndex == parent.Attrs().Index {
			return fmt.Errorf("%s is VLAN %d of %s already: use -o parent=%[1]s without vlan", attrs.Name, tag, parent.Attrs().Name)
		}
		if attrs.Name == name {
			return fmt.Errorf("%s is there already and not VLAN %d of %s: give it another name", name, tag, parent.Attrs().Name)
		}
	}
	return nil
}
