package nicmove

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/rtmsg"
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
		r.WasDown = r.WasDown && !isMoreThan(want, r.Saved)
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
	t := transfer{kernel: m.kernel, from: nic, to: bridge, want: r.Saved.On(nic, bridge)}
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
func (m *Mover) want(r *record, link netlink.Link, same bool) (rtmsg.State, error) {
	nic := deviceOf(link)
	now, err := m.kernel.socket.Read(nic)
	if err != nil {
		return rtmsg.State{}, err
	}
	bridge, found, err := m.kernel.find(r.Bridge)
	switch {
	case err != nil:
		return rtmsg.State{}, err
	case (r.Phase == enslaving || r.Phase == releasing) && same:
		return r.Saved.With(now), nil // now may have the flags that settle takes off
	case r.Phase == enslaved && found:
		have, err := m.kernel.socket.Read(deviceOf(bridge))
		have = have.On(deviceOf(bridge), nic)
		if same {
			have = withoutOwn(have, r.Saved)
		}
		now = now.With(have)
		if same && bridge.Attrs().RawFlags&unix.IFF_UP == 0 {
			now = now.With(r.Saved) // a link that is set down loses IPv6 addresses and all routes
		}
		return now, err
	case r.Phase == enslaved && same && !hasAddress(now):
		return now.With(r.Saved), nil // the bridge was deleted with all it had
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
	t := transfer{kernel: m.kernel, from: rtmsg.Device{Name: r.Bridge}, to: nic}
	var have rtmsg.State
	if found {
		t.from = deviceOf(bridge)
		if have, err = m.kernel.socket.Read(t.from); err != nil {
			return err
		}
		have = have.On(t.from, nic)
	}
	if err := m.revise(r, nic, have, m.sameLink(r, parent)); err != nil {
		return err
	}
	r.Index, r.Boot = parent.Attrs().Index, m.Boot
	r.Phase = releasing
	if err := m.note(r); err != nil {
		return err
	}
	t.want = r.Saved.On(nic, nic)
	return t.run(t.addAddresses, t.moveRoutes, func() error { return m.detach(link) },
		func() error { return m.deleteBridge(r) }, t.settle,
		func() error { return m.setDownAgain(r, nic) },
		func() error { return m.deletePort(r, link) },
		func() error { return m.forget(r) })
}

// revise makes the record one of what goes back to the NIC: all that the bridge
// has and, where the bridge has lost it, what the NIC had.
func (m *Mover) revise(r *record, nic rtmsg.Device, have rtmsg.State, same bool) error {
	now, err := m.kernel.socket.Read(nic)
	if err != nil {
		return err
	}
	bare, err := m.isBare(r)
	if err != nil {
		return err
	}
	if same {
		have = withoutOwn(have, r.Saved)
	}
	r.WasDown = r.WasDown && same && !isMoreThan(have.With(now), r.Saved)
	if !same || r.Phase == enslaved && !bare {
		r.Saved = rtmsg.State{} // it is of another boot, or may have changed since
	}
	r.Saved = r.Saved.With(have)
	return nil
}

// sameLink says that the record speaks of the NIC as this kernel has it.
func (m *Mover) sameLink(r *record, parent netlink.Link) bool {
	return r.Phase != "" && r.Boot == m.Boot && r.Index == parent.Attrs().Index
}

// attach makes the NIC a port of the bridge.
func (m *Mover) attach(link netlink.Link, bridge rtmsg.Device) error {
	name := link.Attrs().Name
	if err := m.setUp(link); err != nil {
		return err
	}
	if link.Attrs().MasterIndex != bridge.Index {
		err := m.kernel.do("put "+name+" into bridge "+bridge.Name, func() error {
			return m.kernel.LinkSetMasterByIndex(link, bridge.Index)
		})
		if err != nil {
			return err
		}
	}
	// Reading a link has the kernel (6.9 and newer) act on its carrier at once:
	// before that, the bridge drops what is sent through it.
	_, err := m.kernel.LinkByIndex(bridge.Index)
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

func (m *Mover) setDownAgain(r *record, nic rtmsg.Device) error {
	if !r.WasDown || r.VLAN != 0 {
		return nil
	}
	link, err := m.kernel.LinkByIndex(nic.Index)
	if err != nil {
		return err
	}
	return m.kernel.do("set "+nic.Name+" down", func() error { return m.kernel.LinkSetDown(link) })
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
func hasAddress(s rtmsg.State) bool {
	return slices.ContainsFunc(s.Addresses, func(a rtmsg.Message) bool { return !a.IsLinkLocal() })
}

// hasRouterRoute says whether the default route, or one of them, came by router advertisement.
func hasRouterRoute(s rtmsg.State) bool { return slices.ContainsFunc(s.Routes, rtmsg.Message.ByRouter) }

// withoutOwn leaves out the link-local addresses that the kernel gave the bridge
// itself, beside the parent's: it does when a bridge goes up, by the parent's addr_gen_mode.
func withoutOwn(s, parents rtmsg.State) rtmsg.State {
	if !slices.ContainsFunc(parents.Addresses, rtmsg.Message.IsLinkLocal) {
		return s
	}
	own := rtmsg.Without(s.Addresses, parents.Addresses)
	own = slices.DeleteFunc(own, func(a rtmsg.Message) bool { return a.Maker() != rtmsg.MadeByLink })
	s.Addresses = rtmsg.Without(s.Addresses, own)
	return s
}

// isMoreThan says whether a user or a server gave the device an address since it had but
// those of old. What the kernel makes by itself when a link is up counts for nothing.
func isMoreThan(s, old rtmsg.State) bool {
	return slices.ContainsFunc(rtmsg.Without(s.Addresses, old.Addresses), func(a rtmsg.Message) bool {
		return !a.IsLinkLocal() && a.Maker() != rtmsg.MadeByRouter
	})
}
