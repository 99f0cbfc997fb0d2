package vxlan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// limits of RFC 7348 §5, RFC 791 and RFC 8200 §5.
const (
	maxVNI     = 1<<24 - 1
	minMTU     = 68
	minMTUIPv6 = 1280
)

// Check says why this host cannot have network; nil when it can.
func (p *Plane) Check(_ context.Context, network fabric.Network) error {
	if err := p.checkNetwork(network); err != nil {
		return fmt.Errorf("vxlan: %w", err)
	}
	return nil
}

func (p *Plane) checkNetwork(network fabric.Network) error {
	if network.VNI == 0 || network.VNI > maxVNI {
		return fmt.Errorf("VNI %d is not between 1 and %d", network.VNI, maxVNI)
	}
	if network.MTU != 0 && network.MTU < minMTU {
		return fmt.Errorf("MTU %d is less than IP's least, %d", network.MTU, minMTU)
	}
	for _, subnet := range network.Subnets {
		if subnet.Prefix.Addr().Is6() && network.MTU != 0 && network.MTU < minMTUIPv6 {
			return fmt.Errorf("MTU %d is less than IPv6's least, %d, and the network has %s", network.MTU, minMTUIPv6, subnet.Prefix)
		}
	}
	if err := p.filters.Check(network); err != nil {
		return err
	}
	holder, err := p.holder(network.VNI)
	if err != nil {
		return err
	}
	if holder != "" && holder != p.path(network.ID) {
		return fmt.Errorf("VNI %d on UDP port %d is taken by %s", network.VNI, p.Port, holder)
	}
	return nil
}

// check refuses a segment that no device can be made for.
func check(want fabric.Segment) error {
	if !want.VTEP.IsValid() {
		return fmt.Errorf("network %s: this host has no VTEP address", nameOf(want.Network))
	}
	if want.Network.VNI == 0 {
		return fmt.Errorf("network %s: it has no VNI", nameOf(want.Network))
	}
	return nil
}

// conflict is the error for a VNI that the kernel says is in use.
func (p *Plane) conflict(vni uint32) error {
	holder, err := p.holder(vni)
	if err != nil || holder == "" {
		holder = "a VXLAN device in another network namespace"
	}
	return fmt.Errorf("VNI %d on UDP port %d is taken by %s", vni, p.Port, holder)
}

// holder names what has a VXLAN device with that VNI and our port on a socket
// of the host's namespace: the device, or the namespace that it was moved to, as
// Docker's overlay and we do. It is empty when there is none in sight.
func (p *Plane) holder(vni uint32) (string, error) {
	device, err := p.deviceWith(p.host, vni)
	if err != nil || device != "" {
		return device, err
	}
	for _, dir := range []string{p.Dir, p.EngineDir} {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		for _, file := range files {
			path := filepath.Join(dir, file.Name())
			if p.holds(path, vni) {
				return path, nil
			}
		}
	}
	return "", nil
}

// holds is false for a namespace that cannot be opened: it is being deleted.
func (p *Plane) holds(path string, vni uint32) bool {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return false
	}
	defer ns.Close()
	handle, err := nl.Open(ns)
	if err != nil {
		return false
	}
	defer handle.Close()
	device, err := p.deviceWith(handle, vni)
	return err == nil && device != ""
}

// deviceWith gives the VXLAN device in handle's namespace that has the VNI, our
// port, and its socket in the host's namespace.
func (p *Plane) deviceWith(handle *nl.Handle, vni uint32) (string, error) {
	links, err := handle.LinkList()
	if err != nil {
		return "", fmt.Errorf("list links: %w", err)
	}
	home := -1 // the NetNsID of a device whose socket is where it is itself
	if handle != p.host {
		if home, err = handle.GetNetNsIdByFd(int(p.host.NS())); err != nil || home < 0 {
			return "", err
		}
	}
	for _, link := range links {
		device, ok := link.(*netlink.Vxlan)
		if ok && device.VxlanId == int(vni) && device.Port == p.Port && device.NetNsID == home {
			return "device " + device.Name, nil
		}
	}
	return "", nil
}
