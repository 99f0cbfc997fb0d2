package underlay

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// tag makes a tagged sub-interface of the parent (IEEE 802.1Q) and a bridge
// with it as a port. The parent keeps its addresses: they are of another wire.
func (p *Plane) tag(r *record) error {
	parent, err := p.parent(r)
	if err != nil {
		return err
	}
	r.Phase, r.Index, r.MAC, r.Boot = taking, parent.Attrs().Index, macOf(parent), p.boot
	if err := p.note(r); err != nil {
		return err
	}
	bridge, err := p.makeBridge(r, parent)
	if err != nil {
		return err
	}
	// A VLAN goes up on a parent that is up only.
	if err := p.setUp(parent); err != nil {
		return err
	}
	name := vlanName(r.Parent, r.VLAN)
	link, found, err := p.kernel.find(name)
	if err != nil {
		return err
	}
	if !found {
		if link, err = p.newVLAN(name, parent, r.VLAN); err != nil {
			return err
		}
	}
	if err := p.attach(link, bridge); err != nil {
		return err
	}
	r.Phase = taken
	return p.note(r)
}

func (p *Plane) newVLAN(name string, parent netlink.Link, tag int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, parent.Attrs().Index
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: tag}
	if err := p.kernel.do("make VLAN "+name, func() error { return p.kernel.LinkAdd(vlan) }); err != nil {
		return nil, err
	}
	link, err := p.kernel.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("look for VLAN %s: %w", name, err)
	}
	return link, p.kernel.do("mark VLAN "+name, func() error {
		return p.kernel.LinkSetAlias(link, mark+parent.Attrs().Name)
	})
}

func (p *Plane) untag(r *record) error {
	r.Phase = returning
	if err := p.note(r); err != nil {
		return err
	}
	if err := p.removeBridge(r); err != nil {
		return err
	}
	name := vlanName(r.Parent, r.VLAN)
	link, found, err := p.kernel.find(name)
	if err != nil {
		return err
	}
	if found {
		if err := p.kernel.do("remove VLAN "+name, func() error { return p.kernel.LinkDel(link) }); err != nil {
			return err
		}
	}
	return p.forget(r)
}

func vlanName(parent string, tag int) string {
	name := fmt.Sprintf("%s.%d", parent, tag)
	if len(name) > maxName {
		name = fabric.DeviceName("cwv-", name)
	}
	return name
}

// checkVLAN says why the parent cannot have the sub-interface. Whether the
// kernel knows VLANs is asked with a tag that it must refuse: one that does
// says so of the tag, the other of the type.
func (p *Plane) checkVLAN(parent netlink.Link, tag int) error {
	if err := checkKind(parent); err != nil {
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
