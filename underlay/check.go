package underlay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Check says why the network's parent cannot be taken, or its bridge not be
// used, before anything is touched.
func (p *Plane) Check(ctx context.Context, network fabric.Network) error {
	return wrap(p.check(ctx, network))
}

func (p *Plane) check(ctx context.Context, network fabric.Network) error {
	name := bridgeName(network)
	if err := checkName(name); err != nil {
		return err
	}
	ours, err := p.checkRecords(network, name)
	if err != nil {
		return err
	}
	if ours || network.Parent == "" {
		bridge, err := p.foreignBridge(name)
		if ours && errors.Is(err, errGone) {
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
	parent, found, err := p.kernel.find(network.Parent)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("parent %s: %w", network.Parent, errGone)
	}
	if err := checkMTU(network, "parent", parent); err != nil {
		return err
	}
	if network.VLAN != 0 {
		err = p.checkVLAN(parent, network.VLAN)
	} else {
		err = p.checkParent(ctx, parent)
	}
	if err != nil || forced(network) {
		return err
	}
	if network.VLAN == 0 {
		if err := p.checkRules(ctx, naming{deviceOf(parent), name}); err != nil {
			return err
		}
	}
	return checkWire(parent)
}

// checkRecords says whether the bridge is ours already.
func (p *Plane) checkRecords(network fabric.Network, name string) (ours bool, err error) {
	for _, r := range p.records {
		switch {
		case network.Parent == "":
			ours = ours || r.Bridge == name
		case r.isOf(network) && r.Bridge == name:
			ours = true
		case r.isOf(network):
			return false, fmt.Errorf("parent %s is in bridge %s: another network cannot put it into %s",
				describe(network), r.Bridge, name)
		case r.Bridge == name:
			return false, fmt.Errorf("bridge %s is that of %s: %s needs another",
				name, describe(fabric.Network{Parent: r.Parent, VLAN: r.VLAN}), describe(network))
		}
	}
	return ours, nil
}

// checkFree refuses to make a bridge where a link has the name.
func (p *Plane) checkFree(name string) error {
	link, found, err := p.kernel.find(name)
	if err != nil || !found {
		return err
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("%s is there already and no bridge but a %s: give the bridge another name", name, link.Type())
	}
	return fmt.Errorf("bridge %s is there already: leave parent out to use it as it is, or give another name", name)
}

func describe(network fabric.Network) string {
	if network.VLAN == 0 {
		return network.Parent
	}
	return fmt.Sprintf("%s, VLAN %d,", network.Parent, network.VLAN)
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
	if errors.Is(err, errGone) {
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

// bridge finds a bridge, whoever made it.
func (p *Plane) bridge(name string) (netlink.Link, error) {
	link, found, err := p.kernel.find(name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("bridge %s: %w", name, errGone)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("%s is no bridge but a %s", name, link.Type())
	}
	return link, nil
}

// checkRules refuses a move that the host's own firewall is not ready for.
func (p *Plane) checkRules(ctx context.Context, n naming) error {
	for _, rule := range p.rulesNaming(ctx, n) {
		if !rule.translates {
			return fmt.Errorf("parent %s is named by the host's firewall (%s), which will see bridge %s in its place: "+
				"add the rule for that too, or take it all the same with -o force=true", n.nic.name, rule.text, n.bridge)
		}
	}
	return nil
}

// rulesNaming lists the rules of the host's firewall that name the NIC, as far as
// they can be read.
func (p *Plane) rulesNaming(ctx context.Context, n naming) []namedRule {
	rules, err := p.firewall.rulesNaming(ctx, n)
	if err != nil {
		p.log.WithError(err).Warnf("look for firewall rules that name %s", n.nic.name)
	}
	return rules
}

// checkWire refuses a parent without carrier: it is most often the wrong one.
func checkWire(parent netlink.Link) error {
	if parent.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
		return fmt.Errorf("parent %s has no carrier; take it all the same with -o force=true", parent.Attrs().Name)
	}
	return nil
}

func forced(network fabric.Network) bool {
	force, err := strconv.ParseBool(network.Options["force"])
	return err == nil && force
}
