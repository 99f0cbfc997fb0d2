package underlay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/nicmove"
)

// Check says why the network's parent cannot be used, or its bridge not be
// used, before anything is touched.
//
// A move that could cut the host off is tried: the NIC is moved, what must answer
// is asked, and the NIC is moved back.
func (p *Plane) Check(ctx context.Context, network fabric.Network) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.check(ctx, network)
	if _, ours := p.place(bridgeName(network)); err == nil && !ours && network.Parent != "" && !network.Force {
		err = p.mover.Try(ctx, placeOf(network))
	}
	return wrap(err)
}

func (p *Plane) check(ctx context.Context, network fabric.Network) error {
	name := bridgeName(network)
	if err := errors.Join(checkName(name), p.filters.Check(network)); err != nil {
		return err
	}
	ours, err := p.checkRecords(network, name)
	if err != nil {
		return err
	}
	if ours || network.Parent == "" {
		bridge, err := p.foreignBridge(name)
		if ours && errors.Is(err, nicmove.ErrGone) {
			return nil // Apply makes it again
		}
		if err != nil {
			return err
		}
		return checkMTU(network, "bridge", bridge)
	}
	if err := p.checkFree(name); err != nil {
		return err
	}
	parent, found, err := p.find(network.Parent)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("parent %s: %w", network.Parent, nicmove.ErrGone)
	}
	if err := checkMTU(network, "parent", parent); err != nil {
		return err
	}
	if network.VLAN != 0 {
		err = p.checkVLAN(parent, network.VLAN)
	} else {
		err = p.checkParent(ctx, parent)
	}
	if err != nil || network.Force {
		return err
	}
	return checkWire(parent)
}

// checkRecords says whether the bridge is ours already.
func (p *Plane) checkRecords(network fabric.Network, name string) (ours bool, err error) {
	wanted := placeOf(network)
	for _, have := range p.mover.Places() {
		switch {
		case network.Parent == "":
			ours = ours || have.Bridge == name
		case have.SameNIC(wanted) && have.Bridge == name:
			ours = true
		case have.SameNIC(wanted):
			return false, fmt.Errorf("parent %s is in bridge %s: another network cannot put it into %s",
				describe(wanted), have.Bridge, name)
		case have.Bridge == name:
			return false, fmt.Errorf("bridge %s is that of %s: %s needs another", name, describe(have), describe(wanted))
		}
	}
	return ours, nil
}

// checkFree refuses to make a bridge where a link has the name.
func (p *Plane) checkFree(name string) error {
	link, found, err := p.find(name)
	if err != nil || !found {
		return err
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("%s is there already and no bridge but a %s: give the bridge another name", name, link.Type())
	}
	return fmt.Errorf("bridge %s is there already: leave parent out to use it as it is, or give another name", name)
}

func describe(place nicmove.Place) string {
	if place.VLAN == 0 {
		return place.Parent
	}
	return fmt.Sprintf("%s, VLAN %d,", place.Parent, place.VLAN)
}

// checkName holds a name to what the kernel's dev_valid_name takes.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Errorf("bridge name %q must have 1 to %d bytes, and no slash, colon or space", name, maxName)
	}
	return nil
}

// foreignBridge finds a bridge that a user made.
func (p *Plane) foreignBridge(name string) (netlink.Link, error) {
	bridge, err := p.bridge(name)
	if errors.Is(err, nicmove.ErrGone) {
		return nil, fmt.Errorf("%w; give -o parent=… to have it made", err)
	}
	return bridge, err
}

// checkMTU refuses containers that would send what their way out cannot take.
func checkMTU(network fabric.Network, what string, link netlink.Link) error {
	if have := link.Attrs().MTU; network.MTU > have {
		return fmt.Errorf("option mtu=%d is more than the %d of %s %s", network.MTU, have, what, link.Attrs().Name)
	}
	return nil
}

// bridge finds a bridge, ours or a user's.
func (p *Plane) bridge(name string) (netlink.Link, error) {
	link, found, err := p.find(name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("bridge %s: %w", name, nicmove.ErrGone)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("%s is no bridge but a %s", name, link.Type())
	}
	return link, nil
}

// checkWire refuses a parent without carrier: it is most often the wrong one.
func checkWire(parent netlink.Link) error {
	if parent.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
		return fmt.Errorf("parent %s has no carrier; use it all the same with -o force=true", parent.Attrs().Name)
	}
	return nil
}
