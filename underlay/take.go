package underlay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// take puts the parent into its bridge and gives the bridge all that the parent
// had. It may be called at any time, and again after it broke off anywhere: what
// is done already is found done.
//
// At each moment the host's addresses are on the parent, on the bridge, or on
// both, and one of the two has the routes. Frames come in through the parent
// until it becomes a port, then through the bridge; the kernel takes a packet
// for an address of any device, and sends through a port as through any NIC.
func (p *Plane) take(r *record) error {
	link, err := p.freeParent(r)
	if err != nil {
		return err
	}
	nic := deviceOf(link)
	if !p.sameLink(r, nic) {
		if err := checkKind(link); err != nil {
			return err // another has the name now
		}
	}
	want, err := p.intent(r, link)
	if err != nil {
		return err
	}
	if p.sameLink(r, nic) {
		r.WasDown = r.WasDown && !want.isMoreThan(r.Saved)
	} else {
		r.WasDown = link.Attrs().RawFlags&unix.IFF_UP == 0
	}
	r.Saved = want
	r.Phase, r.Index, r.Boot = taking, nic.index, p.boot
	r.MAC = macOf(link)
	if err := p.note(r); err != nil {
		return err
	}
	bridge, err := p.makeBridge(r, link)
	if err != nil {
		return err
	}
	m := move{kernel: p.kernel, from: nic, to: bridge, want: r.Saved.on(nic, bridge)}
	err = m.run(m.addAddresses, func() error { return p.attach(link, bridge) }, m.moveRoutes, m.removeAddresses, m.settle,
		func() error { return p.followGenMode(link, bridge) })
	if err != nil {
		return err
	}
	r.Phase = taken
	return p.note(r)
}

// freeParent is the parent, unless somebody put it into another device since.
func (p *Plane) freeParent(r *record) (netlink.Link, error) {
	link, err := p.parent(r)
	if err != nil || link.Attrs().MasterIndex == 0 {
		return link, err
	}
	master, err := p.kernel.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil {
		return nil, fmt.Errorf("parent %s: look for its bridge: %w", r.Parent, err)
	}
	if name := master.Attrs().Name; name != r.Bridge {
		return nil, fmt.Errorf("parent %s was put into %s by somebody else", r.Parent, name)
	}
	return link, nil
}

// intent is what the parent's bridge shall have, in the parent's terms.
func (p *Plane) intent(r *record, link netlink.Link) (state, error) {
	nic := deviceOf(link)
	now, err := p.kernel.read(nic)
	if err != nil {
		return state{}, err
	}
	same := p.sameLink(r, nic)
	bridge, found, err := p.kernel.find(r.Bridge)
	switch {
	case err != nil:
		return state{}, err
	case (r.Phase == taking || r.Phase == returning) && same:
		return r.Saved.with(now), nil // now may have the flags that settle takes off
	case r.Phase == taken && found:
		have, err := p.kernel.read(deviceOf(bridge))
		have = have.on(deviceOf(bridge), nic)
		if same {
			have = have.withoutOwn(r.Saved)
		}
		now = now.with(have)
		if same && bridge.Attrs().RawFlags&unix.IFF_UP == 0 {
			now = now.with(r.Saved) // a link that is set down loses IPv6 addresses and all routes
		}
		return now, err
	case r.Phase == taken && same && !now.hasAddress():
		return now.with(r.Saved), nil // somebody removed the bridge with all it had
	default:
		return now, nil
	}
}

// giveBack is take in reverse: the parent gets what the bridge has, leaves it,
// and the bridge goes.
func (p *Plane) giveBack(r *record) error {
	link, err := p.freeParent(r)
	if err != nil {
		return err
	}
	nic := deviceOf(link)
	bridge, found, err := p.kernel.find(r.Bridge)
	if err != nil {
		return err
	}
	m := move{kernel: p.kernel, from: device{name: r.Bridge}, to: nic}
	var have state
	if found {
		m.from = deviceOf(bridge)
		if have, err = p.kernel.read(m.from); err != nil {
			return err
		}
		have = have.on(m.from, nic)
	}
	if err := p.revise(r, nic, have); err != nil {
		return err
	}
	r.Index, r.Boot = nic.index, p.boot
	r.Phase = returning
	if err := p.note(r); err != nil {
		return err
	}
	m.want = r.Saved.on(nic, nic)
	return m.run(m.addAddresses, m.moveRoutes, func() error { return p.detach(link) },
		func() error { return p.removeBridge(r) }, m.settle,
		func() error { return p.setDownAgain(r, nic) },
		func() error { return p.forget(r) })
}

// revise makes the record one of what goes back to the NIC: all that the bridge
// has and, where the bridge has lost it, what the NIC had.
func (p *Plane) revise(r *record, nic device, have state) error {
	now, err := p.kernel.read(nic)
	if err != nil {
		return err
	}
	bare, err := p.isBare(r)
	if err != nil {
		return err
	}
	same := p.sameLink(r, nic)
	if same {
		have = have.withoutOwn(r.Saved)
	}
	r.WasDown = r.WasDown && same && !have.with(now).isMoreThan(r.Saved)
	if !same || r.Phase == taken && !bare {
		r.Saved = state{} // it is of another boot, or may have changed since
	}
	r.Saved = r.Saved.with(have)
	return nil
}

// sameLink says that the record speaks of the NIC as this kernel has it.
func (p *Plane) sameLink(r *record, nic device) bool {
	return r.Phase != "" && r.Boot == p.boot && r.Index == nic.index
}

// attach makes the NIC a port.
func (p *Plane) attach(link netlink.Link, bridge device) error {
	name := link.Attrs().Name
	if err := p.setUp(link); err != nil {
		return err
	}
	if link.Attrs().MasterIndex != bridge.index {
		err := p.kernel.do("put "+name+" into bridge "+bridge.name, func() error {
			return p.kernel.LinkSetMasterByIndex(link, bridge.index)
		})
		if err != nil {
			return err
		}
	}
	// Reading a link has the kernel (6.9 and newer) act on its carrier at once:
	// before that, the bridge drops what is sent through it.
	_, err := p.kernel.LinkByIndex(bridge.index)
	return err
}

func (p *Plane) setUp(link netlink.Link) error {
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	return p.kernel.do("set "+link.Attrs().Name+" up", func() error { return p.kernel.LinkSetUp(link) })
}

func (p *Plane) detach(link netlink.Link) error {
	if link.Attrs().MasterIndex == 0 {
		return nil
	}
	return p.kernel.do("take "+link.Attrs().Name+" out of its bridge", func() error { return p.kernel.LinkSetNoMaster(link) })
}

func (p *Plane) setDownAgain(r *record, nic device) error {
	if !r.WasDown {
		return nil
	}
	link, err := p.kernel.LinkByIndex(nic.index)
	if err != nil {
		return err
	}
	return p.kernel.do("set "+nic.name+" down", func() error { return p.kernel.LinkSetDown(link) })
}

// parent finds the record's NIC: by the index and MAC that it has until the next
// boot, whatever its name is now, or else by its name.
func (p *Plane) parent(r *record) (netlink.Link, error) {
	if r.Boot == p.boot {
		link, err := p.kernel.LinkByIndex(r.Index)
		if err == nil && macOf(link) == r.MAC {
			return link, nil
		}
		if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil, fmt.Errorf("parent %s: %w", r.Parent, err)
		}
	}
	link, found, err := p.kernel.find(r.Parent)
	if err == nil && !found {
		return nil, fmt.Errorf("parent %s: %w", r.Parent, errGone)
	}
	return link, err
}

// errGone says that there is no such link on the host.
var errGone = errors.New("no such interface")

// hasAddress says whether a user or a server gave the device an address.
func (s state) hasAddress() bool {
	return slices.ContainsFunc(s.Addresses, func(a message) bool { return !a.isLinkLocal() })
}

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

// isMoreThan says whether somebody gave the device an address since it had but
// those of old. What the kernel makes by itself when a link is up counts for nothing.
func (s state) isMoreThan(old state) bool {
	return slices.ContainsFunc(without(s.Addresses, old.Addresses), func(a message) bool {
		return !a.isLinkLocal() && a.maker() != madeByRouter
	})
}
