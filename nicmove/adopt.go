package nicmove

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// adopt makes records of the bridges that are ours and that the journal has
// lost, with its folder or with a plugin that was removed and installed again:
// the mark names the parent, and the parent is a port.
func (m *Mover) adopt() error {
	links, err := m.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, bridge := range links {
		name := bridge.Attrs().Name
		parent, ours := strings.CutPrefix(bridge.Attrs().Alias, m.Mark)
		if !ours || bridge.Type() != "bridge" || m.records[name] != nil {
			continue
		}
		for _, port := range links {
			if port.Attrs().MasterIndex != bridge.Attrs().Index {
				continue
			}
			if r := adopted(m.Mark, name, parent, port, links); r != nil {
				r.Boot = m.Boot
				m.Log.Warnf("bridge %s has %s in it and is not in the journal: adopted", name, parent)
				errs = append(errs, m.note(r))
			}
		}
	}
	return errors.Join(errs...)
}

// adopted is the record of a bridge whose port is the parent or a VLAN of it;
// nil if it is another port.
func adopted(mark, bridge, parent string, port netlink.Link, links []netlink.Link) *record {
	r := &record{Place: Place{Bridge: bridge, Parent: parent}, Phase: enslaved}
	nic := port
	if vlan, tagged := port.(*netlink.Vlan); tagged && port.Attrs().Alias == mark+parent {
		r.VLAN, r.Port = vlan.VlanId, port.Attrs().Name
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
