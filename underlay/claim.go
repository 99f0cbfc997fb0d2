package underlay

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// claim makes the record's bridge with its NIC or VLAN as a port.
func (p *Plane) claim(ctx context.Context, r *record) error {
	first := r.Phase != taken || r.Boot != p.boot
	work := p.take
	if r.VLAN != 0 {
		work = p.tag
	}
	if err := work(r); err != nil {
		return err
	}
	switch {
	case !first:
		p.log.Warnf("bridge %s was not as it has to be, and is again", r.Bridge)
	case r.VLAN != 0:
		p.log.Infof("bridge %s has VLAN %d of %s", r.Bridge, r.VLAN, r.Parent)
	default:
		p.log.Infof("bridge %s has taken %s in, with all its addresses and routes", r.Bridge, r.Parent)
		p.warn(ctx, r)
	}
	return nil
}

// release undoes claim. A parent that is gone gets nothing back.
func (p *Plane) release(r *record) error {
	work := p.giveBack
	if r.VLAN != 0 {
		work = p.untag
	}
	err := work(r)
	if errors.Is(err, errGone) {
		p.log.Warnf("bridge %s goes with all it has: %v", r.Bridge, err)
		return errors.Join(p.removeBridge(r), p.forget(r))
	}
	if err == nil {
		p.log.Infof("bridge %s has given %s back", r.Bridge, r.Parent)
	}
	return err
}

// inPlace says whether the kernel still has what claim made: the bridge is up,
// the parent is its port, and no DHCP client or user has given the parent an
// address again.
func (p *Plane) inPlace(r *record) (bool, error) {
	bridge, found, err := p.kernel.find(r.Bridge)
	if err != nil || !found || bridge.Attrs().RawFlags&unix.IFF_UP == 0 {
		return false, err
	}
	port, err := p.port(r)
	if errors.Is(err, errGone) {
		return false, nil
	}
	if err != nil || port.Attrs().MasterIndex != bridge.Attrs().Index {
		return false, err
	}
	if r.VLAN != 0 {
		return true, nil
	}
	addresses, err := p.kernel.addresses(deviceOf(port))
	return !state{Addresses: addresses}.hasAddress(), err
}

// isBare says that the bridge went and left its parent without an address.
func (p *Plane) isBare(r *record) (bool, error) {
	_, found, err := p.kernel.find(r.Bridge)
	if err != nil || found || r.VLAN != 0 || r.Boot != p.boot {
		return false, err
	}
	parent, err := p.parent(r)
	if errors.Is(err, errGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	addresses, err := p.kernel.addresses(deviceOf(parent))
	bare := !state{Addresses: addresses}.hasAddress()
	return parent.Attrs().Index == r.Index && bare && r.Saved.hasAddress(), err
}

// port finds the bridge's port to the wire.
func (p *Plane) port(r *record) (netlink.Link, error) {
	if r.VLAN == 0 {
		return p.parent(r)
	}
	link, found, err := p.kernel.find(vlanName(r.Parent, r.VLAN))
	if err == nil && !found {
		return nil, fmt.Errorf("VLAN %d of %s: %w", r.VLAN, r.Parent, errGone)
	}
	return link, err
}

// warn tells of what a move cannot carry: what others do by the NIC's name.
func (p *Plane) warn(ctx context.Context, r *record) {
	for _, a := range r.Saved.Addresses {
		if a.isDynamic() {
			p.log.Warnf("address %s of %s is leased: it runs out on bridge %s unless the DHCP client is told to run there",
				a, r.Parent, r.Bridge)
		}
	}
	rules, err := p.kernel.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		p.log.WithError(err).Warn("list routing rules")
	}
	for _, rule := range rules {
		if rule.IifName == r.Parent || rule.OifName == r.Parent {
			p.log.Warnf("routing rule %d names %s: its packets are those of bridge %s now", rule.Priority, r.Parent, r.Bridge)
		}
	}
	for _, rule := range p.rulesNaming(ctx, naming{device{r.Index, r.Parent}, r.Bridge}) {
		p.log.Warnf("the firewall names %s (%s): its packets are those of bridge %s now", r.Parent, rule.text, r.Bridge)
	}
}
