package underlay

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// adopt makes records of the bridges that are ours and that the journal has
// lost, with its folder or with a plugin that was removed and installed again:
// the mark names the parent, and the parent is a port.
func (p *Plane) adopt() error {
	links, err := p.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, bridge := range links {
		name := bridge.Attrs().Name
		parent, ours := strings.CutPrefix(bridge.Attrs().Alias, mark)
		if !ours || bridge.Type() != "bridge" || p.records[name] != nil {
			continue
		}
		for _, port := range links {
			if port.Attrs().MasterIndex != bridge.Attrs().Index {
				continue
			}
			if r := adopted(name, parent, port, links); r != nil {
				r.Boot = p.boot
				p.log.Warnf("bridge %s has %s in it and is not in the journal: it is again", name, parent)
				errs = append(errs, p.note(r))
			}
		}
	}
	return errors.Join(errs...)
}

// adopted is the record of a bridge whose port is the parent or a VLAN of it;
// nil if it is another port.
func adopted(bridge, parent string, port netlink.Link, links []netlink.Link) *record {
	r := &record{Bridge: bridge, Parent: parent, Phase: taken}
	nic := port
	if vlan, tagged := port.(*netlink.Vlan); tagged && port.Attrs().Alias == mark+parent {
		r.VLAN = vlan.VlanId
		for _, link := range links {
			if link.Attrs().Index == port.Attrs().ParentIndex {
				nic = link
			}
		}
	}
	if nic.Attrs().Name != parent {
		return nil
	}
	r.Index, r.MAC = nic.Attrs().Index, macOf(nic)
	return r
}
