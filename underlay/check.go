package underlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

func (p *Plane) check(_ context.Context, network fabric.Network) error {
	name := bridgeName(network)
	if err := checkName(name); err != nil {
		return err
	}
	if network.Parent == "" {
		bridge, err := p.foreignBridge(name)
		if err != nil {
			return err
		}
		return checkMTU(network, "bridge", bridge)
	}
	for _, r := range p.records {
		same := r.Parent == network.Parent && r.VLAN == network.VLAN
		if same && r.Bridge != name {
			return fmt.Errorf("parent %s is in bridge %s: another network cannot put it into %s",
				describe(network), r.Bridge, name)
		}
		if !same && r.Bridge == name {
			return fmt.Errorf("bridge %s is that of %s: %s needs another",
				name, describe(fabric.Network{Parent: r.Parent, VLAN: r.VLAN}), describe(network))
		}
		if same {
			return nil // ours already
		}
	}
	_, found, err := p.kernel.find(name)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("bridge %s is there already: leave parent out to use it as it is, or give another name", name)
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
	check := p.checkKind
	if network.VLAN != 0 {
		check = func(parent netlink.Link) error { return p.checkVLAN(parent, network.VLAN) }
	}
	if err := check(parent); err != nil {
		return err
	}
	return checkWire(parent, network)
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

// checkKind refuses links that cannot be, or are already, a port.
func (p *Plane) checkKind(parent netlink.Link) error {
	attrs := parent.Attrs()
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("parent %s cannot be taken: %s", attrs.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case attrs.RawFlags&unix.IFF_LOOPBACK != 0:
		return refuse("it is the loopback")
	case parent.Type() == "bridge":
		return refuse("it is a bridge itself; use -o bridge=%s", attrs.Name)
	case attrs.EncapType != "ether":
		return refuse("it is no Ethernet device but %s", attrs.EncapType)
	case parent.Type() == "macvlan" || parent.Type() == "ipvlan":
		return refuse("a %s hears no frames but its own", parent.Type())
	case isWireless(attrs.Name):
		return refuse("it is wireless, and an access point takes frames of the station's own MAC only")
	}
	if attrs.MasterIndex != 0 {
		master, err := p.kernel.LinkByIndex(attrs.MasterIndex)
		if err != nil {
			return refuse("it is in another device")
		}
		if master.Type() == "bridge" {
			return refuse("it is in bridge %s already; use -o bridge=%[1]s", master.Attrs().Name)
		}
		return refuse("it is in the %s %s already; take that as the parent", master.Type(), master.Attrs().Name)
	}
	links, err := p.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if kind := link.Type(); link.Attrs().ParentIndex == attrs.Index && (kind == "macvlan" || kind == "macvtap" || kind == "ipvlan") {
			return refuse("the %s %s is on it", kind, link.Attrs().Name)
		}
	}
	return nil
}

// checkWire refuses a parent without carrier: it is most often the wrong one.
func checkWire(parent netlink.Link, network fabric.Network) error {
	if force, _ := strconv.ParseBool(network.Options["force"]); force {
		return nil
	}
	if parent.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
		return fmt.Errorf("parent %s has no carrier; take it all the same with -o force=true", parent.Attrs().Name)
	}
	return nil
}

// isWireless asks cfg80211, which links each of its devices to its radio.
func isWireless(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "phy80211"))
	return err == nil
}
