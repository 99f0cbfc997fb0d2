package nicmove

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// port finds the bridge's port to the wire: the NIC, or its VLAN device.
func (m *Mover) port(r *record) (netlink.Link, error) {
	if r.VLAN == 0 {
		return m.parent(r)
	}
	link, found, err := m.kernel.find(r.portName())
	made := func() bool { return r.Phase == enslaving && link.Attrs().ParentIndex == r.Index } // and not marked yet
	if err == nil && (!found || link.Attrs().Alias != m.Mark+r.Parent && !made()) {
		return nil, fmt.Errorf("VLAN %d of %s: %w", r.VLAN, r.Parent, ErrGone)
	}
	return link, err
}

// makePort gives the record's port; a VLAN device (IEEE 802.1Q) is made where it
// is missing. The bridge takes over its settings, by which the host is silent and
// deaf there: it has no business on that wire.
func (m *Mover) makePort(r *record, parent netlink.Link) (netlink.Link, error) {
	if r.VLAN == 0 {
		return parent, nil
	}
	link, err := m.port(r)
	if err == nil && link.Attrs().Alias != "" || err != nil && !errors.Is(err, ErrGone) {
		return link, err
	}
	// A VLAN device goes up only on a parent that is up.
	if err := m.setUp(parent); err != nil {
		return nil, err
	}
	name := r.portName()
	link, found, err := m.kernel.find(name)
	if err != nil {
		return nil, err
	}
	if !found {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = name, parent.Attrs().Index
		if err := m.kernel.do("create VLAN "+name, func() error { return m.kernel.LinkAdd(m.kernel.vlan(attrs, r.VLAN)) }); err != nil {
			return nil, err
		}
		if link, err = m.kernel.Link(name); err != nil {
			return nil, err
		}
	}
	if link.Attrs().ParentIndex != parent.Attrs().Index {
		return nil, fmt.Errorf("%s is not VLAN %d of %s", name, r.VLAN, r.Parent)
	}
	if err := errors.Join(m.kernel.Isolate(name), m.deafen(name)); err != nil {
		return nil, err
	}
	return link, m.kernel.do("mark VLAN "+name, func() error { return m.kernel.LinkSetAlias(link, m.Mark+r.Parent) })
}

// deafen has the host's stack drop IPv4 packets from a wire that it has no route
// to (rp_filter 1, RFC 3704 §2.2): what a container sends to the bridge's own MAC.
func (m *Mover) deafen(device string) error {
	return nl.Do(m.kernel.NS(), func() error {
		return writeSetting(filepath.Join(settingsRoot, "ipv4/conf", device, "rp_filter"), "1")
	})
}

// deletePort deletes the VLAN device of a bridge that is deleted.
func (m *Mover) deletePort(r *record, port netlink.Link) error {
	if r.VLAN == 0 {
		return nil
	}
	return m.kernel.do("delete VLAN "+port.Attrs().Name, func() error { return m.kernel.LinkDel(port) })
}

// portName is the VLAN device's; journals of old do not have it.
func (r *record) portName() string {
	if r.Port != "" {
		return r.Port
	}
	return fmt.Sprintf("%s.%d", r.Parent, r.VLAN)
}

// CheckKind refuses links that hear and send too little for a container to be
// behind them, or to have a VLAN.
func CheckKind(parent netlink.Link) error {
	attrs := parent.Attrs()
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("parent %s cannot be used: %s", attrs.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case attrs.RawFlags&unix.IFF_LOOPBACK != 0:
		return refuse("it is the loopback")
	case attrs.EncapType != "ether":
		return refuse("it is no Ethernet device but %s", attrs.EncapType)
	case parent.Type() == "macvlan" || parent.Type() == "ipvlan":
		return refuse("a %s hears no frames but its own", parent.Type())
	case isWireless(attrs.Name):
		return refuse("it is wireless, and an access point takes frames of the station's own MAC only")
	}
	return nil
}

// isWireless asks cfg80211, which links each of its devices to its radio.
func isWireless(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "phy80211"))
	return err == nil
}
