package nicmove

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enslave puts the record's port into its bridge and transfers to the bridge all
// that the port had. It may be called at any time, and again after it was broken
// off anywhere: what is done already is found done.
//
// At each moment the host's addresses are on the NIC, on the bridge, or on
// both, and one of the two has the routes. Frames come in through the NIC
// until it becomes a port, then through the bridge; the kernel takes a packet
// for an address of any device, and sends through a port as through any NIC.
func (m *Mover) enslave(r *record) error {
	parent, err := m.parent(r)
	if err != nil {
		return err
	}
	same := m.sameLink(r, parent)
	if !same {
		if err := CheckKind(parent); err != nil {
			return err // another has the name now
		}
	}
	if _, err := m.port(r); r.VLAN != 0 && errors.Is(err, ErrGone) { // it is made next: the intent comes first
		if err := m.intend(r, parent); err != nil {
			return err
		}
	}
	link, err := m.makePort(r, parent)
	if err == nil {
		err = m.checkMaster(r, link)
	}
	if err != nil {
		return err
	}
	nic := deviceOf(link)
	want, err := m.want(r, link, same)
	if err != nil {
		return err
	}
	if same {
		r.WasDown = r.WasDown && !want.isMoreThan(r.Saved)
	} else {
		r.WasDown = link.Attrs().RawFlags&unix.IFF_UP == 0
	}
	r.Saved = want
	if err := m.intend(r, parent); err != nil {
		return err
	}
	bridge, err := m.makeBridge(r, link)
	if err != nil {
		return err
	}
	t := transfer{kernel: m.kernel, from: nic, to: bridge, want: r.Saved.on(nic, bridge)}
	return t.run(t.addAddresses, func() error { return m.attach(link, bridge) }, t.moveRoutes, t.removeAddresses, t.settle,
		func() error { return m.followGenMode(link, bridge) })
}

// intend notes what is about to happen, of the NIC as this kernel has it.
func (m *Mover) intend(r *record, parent netlink.Link) error {
	r.Phase, r.Index, r.MAC, r.Boot = enslaving, parent.Attrs().Index, macOf(parent), m.Boot
	return m.note(r)
}

// checkMaster refuses a port that another program put into another device since.
func (m *Mover) checkMaster(r *record, link netlink.Link) error {
	if link.Attrs().MasterIndex == 0 {
		return nil
	}
	master, err := m.kernel.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil {
		return fmt.Errorf("parent %s: look for its bridge: %w", r.Parent, err)
	}
	if name := master.Attrs().Name; name != r.Bridge {
		return fmt.Errorf("parent %s was put into %s by another program", r.Parent, name)
	}
	return nil
}

// want is what the bridge has to have, as it reads on the port.
func (m *Mover) want(r *record, link netlink.Link, same bool) (state, error) {
	nic := deviceOf(link)
	now, err := m.kernel.read(nic)
	if err != nil {
		return state{}, err
	}
	bridge, found, err := m.kernel.find(r.Bridge)
	switch {
	case err != nil:
		return state{}, err
	case (r.Phase == enslaving || r.Phase == releasing) && same:
		return r.Saved.with(now), nil // now may have the flags that settle takes off
	case r.Phase == enslaved && found:
		have, err := m.kernel.read(deviceOf(bridge))
		have = have.on(deviceOf(bridge), nic)
		if same {
			have = have.withoutOwn(r.Saved)
		}
		now = now.with(have)
		if same && bridge.Attrs().RawFlags&unix.IFF_UP == 0 {
			now = now.with(r.Saved) // a link that is set down loses IPv6 addresses and all routes
		}
		return now, err
	case r.Phase == enslaved && same && !now.hasAddress():
		return now.with(r.Saved), nil // the bridge was deleted with all it had
	default:
		return now, nil
	}
}

// restore is enslave in reverse: the port gets what the bridge has, leaves it,
// and the bridge is deleted.
func (m *Mover) restore(r *record) error {
	link, err := m.port(r)
	if err == nil {
		err = m.checkMaster(r, link)
	}
	if err != nil {
		return err
	}
	parent, err := m.parent(r)
	if err != nil {
		return err
	}
	nic := deviceOf(link)
	bridge, found, err := m.kernel.find(r.Bridge)
	if err != nil {
		return err
	}
	t := transfer{kernel: m.kernel, from: device{name: r.Bridge}, to: nic}
	var have state
	if found {
		t.from = deviceOf(bridge)
		if have, err = m.kernel.read(t.from); err != nil {
			return err
		}
		have = have.on(t.from, nic)
	}
	if err := m.revise(r, nic, have, m.sameLink(r, parent)); err != nil {
		return err
	}
	r.Index, r.Boot = parent.Attrs().Index, m.Boot
	r.Phase = releasing
	if err := m.note(r); err != nil {
		return err
	}
	t.want = r.Saved.on(nic, nic)
	return t.run(t.addAddresses, t.moveRoutes, func() error { return m.detach(link) },
		func() error { return m.deleteBridge(r) }, t.settle,
		func() error { return m.setDownAgain(r, nic) },
		func() error { return m.deletePort(r, link) },
		func() error { return m.forget(r) })
}

// revise makes the record one of what goes back to the NIC: all that the bridge
// has and, where the bridge has lost it, what the NIC had.
func (m *Mover) revise(r *record, nic device, have state, same bool) error {
	now, err := m.kernel.read(nic)
	if err != nil {
		return err
	}
	bare, err := m.isBare(r)
	if err != nil {
		return err
	}
	if same {
		have = have.withoutOwn(r.Saved)
	}
	r.WasDown = r.WasDown && same && !have.with(now).isMoreThan(r.Saved)
	if !same || r.Phase == enslaved && !bare {
		r.Saved = state{} // it is of another boot, or may have changed since
	}
	r.Saved = r.Saved.with(have)
	return nil
}

// sameLink says that the record speaks of the NIC as this kernel has it.
func (m *Mover) sameLink(r *record, parent netlink.Link) bool {
	return r.Phase != "" && r.Boot == m.Boot && r.Index == parent.Attrs().Index
}

// attach makes the NIC a port of the bridge.
func (m *Mover) attach(link netlink.Link, bridge device) error {
	name := link.Attrs().Name
	if err := m.setUp(link); err != nil {
		return err
	}
	if link.Attrs().MasterIndex != bridge.index {
		err := m.kernel.do("put "+name+" into bridge "+bridge.name, func() error {
			return m.kernel.LinkSetMasterByIndex(link, bridge.index)
		})
		if err != nil {
			return err
		}
	}
	// Reading a link has the kernel (6.9 and newer) act on its carrier at once:
	// before that, the bridge drops what is sent through it.
	_, err := m.kernel.LinkByIndex(bridge.index)
	return err
}

func (m *Mover) setUp(link netlink.Link) error {
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	return m.kernel.do("set "+link.Attrs().Name+" up", func() error { return m.kernel.LinkSetUp(link) })
}

func (m *Mover) detach(link netlink.Link) error {
	if link.Attrs().MasterIndex == 0 {
		return nil
	}
	return m.kernel.do("take "+link.Attrs().Name+" out of its bridge", func() error { return m.kernel.LinkSetNoMaster(link) })
}

func (m *Mover) setDownAgain(r *record, nic device) error {
	if !r.WasDown || r.VLAN != 0 {
		return nil
	}
	link, err := m.kernel.LinkByIndex(nic.index)
	if err != nil {
		return err
	}
	return m.kernel.do("set "+nic.name+" down", func() error { return m.kernel.LinkSetDown(link) })
}

// parent finds the record's NIC: by the index and MAC that it has until the next
// boot, whatever its name is now, or else by its name.
func (m *Mover) parent(r *record) (netlink.Link, error) {
	if r.Boot == m.Boot {
		link, err := m.kernel.LinkByIndex(r.Index)
		if err == nil && macOf(link) == r.MAC {
			return link, nil
		}
		if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil, fmt.Errorf("parent %s: %w", r.Parent, err)
		}
	}
	link, found, err := m.kernel.find(r.Parent)
	if err == nil && !found {
		return nil, fmt.Errorf("parent %s: %w", r.Parent, ErrGone)
	}
	return link, err
}

// hasAddress says whether a user or a server gave the device an address.
func (s state) hasAddress() bool {
	return slices.ContainsFunc(s.Addresses, func(a message) bool { return !a.isLinkLocal() })
}

// hasRouterRoute says whether the default route, or one of them, came by router advertisement.
func (s state) hasRouterRoute() bool { return slices.ContainsFunc(s.Routes, message.byRouter) }

// withoutOwn leaves out the link-local addresses that the kernel gave the bridge
// itself, beside the parent's: it does when a bridge goes up, by the parent's addr_gen_mode.
func (s state) withoutOwn(parents state) state {
	if !slices.ContainsFunc(parents.Addresses, message.isLinkLocal) {
		return s
	}
	own := without(s.Addresses, parents.Addresses)
	own = slices.DeleteFunc(own, func(a message) bool { return a.maker() != madeByLink })
	s.Addresses = without(s.Addresses, own)
	return s
}

// isMoreThan says whether a user or a server gave the device an address since it had but
// those of old. What the kernel makes by itself when a link is up counts for nothing.
func (s state) isMoreThan(old state) bool {
	return slices.ContainsFunc(without(s.Addresses, old.Addresses), func(a message) bool {
		return !a.isLinkLocal() && a.maker() != madeByRouter
	})
}
