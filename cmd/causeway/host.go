package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// findHost tells what host this is, and the network that its VTEP is in.
func findHost(s settings, self *identity) (fabric.Host, netip.Prefix, error) {
	host := fabric.Host{Name: self.Host, Version: version(), Mirror: s.mirrors()}
	if self.name != self.Host {
		host.Display = self.name
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return host, netip.Prefix{}, fmt.Errorf("boot ID: %w", err)
	}
	host.BootID = strings.TrimSpace(string(boot))
	link, address, err := findVTEP(s.vtep)
	if err != nil {
		return host, netip.Prefix{}, err
	}
	host.VTEP, host.MTU = address.Addr(), link.Attrs().MTU
	return host, address.Masked(), nil
}

// findVTEP finds the device and the address that tunnels end at: want is an
// address, an interface, or empty for those of the default route.
func findVTEP(want string) (netlink.Link, netip.Prefix, error) {
	handle, err := nl.Open(netns.None())
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("vtep: %w", err)
	}
	defer handle.Close()
	if addr, err := netip.ParseAddr(want); err == nil {
		return deviceOf(handle, addr)
	}
	name := want
	if name == "" {
		if name, err = defaultDevice(handle); err != nil {
			return nil, netip.Prefix{}, err
		}
	}
	link, err := handle.LinkByName(name)
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("vtep %q is neither an address nor an interface of this host", name)
	}
	if master := link.Attrs().MasterIndex; master != 0 {
		// A bridge that took the interface in has its addresses.
		if link, err = handle.LinkByIndex(master); err != nil {
			return nil, netip.Prefix{}, fmt.Errorf("vtep %s: find its bridge: %w", name, err)
		}
	}
	address, err := addressOn(handle, link)
	return link, address, err
}

// deviceOf finds the device that has addr.
func deviceOf(handle *nl.Handle, addr netip.Addr) (netlink.Link, netip.Prefix, error) {
	addresses, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("vtep %s: list addresses: %w", addr, err)
	}
	for _, candidate := range addresses {
		prefix, ok := prefixOf(candidate)
		if !ok || prefix.Addr() != addr {
			continue
		}
		link, err := handle.LinkByIndex(candidate.LinkIndex)
		if err != nil {
			return nil, netip.Prefix{}, fmt.Errorf("vtep %s: find its interface: %w", addr, err)
		}
		return link, prefix, nil
	}
	return nil, netip.Prefix{}, fmt.Errorf("vtep %s is not an address of this host", addr)
}

// addressOn picks the address of link that other hosts reach: a global one, IPv4 first.
func addressOn(handle *nl.Handle, link netlink.Link) (netip.Prefix, error) {
	name := link.Attrs().Name
	addresses, err := handle.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("vtep %s: list addresses: %w", name, err)
	}
	for _, family := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		for _, candidate := range addresses {
			prefix, ok := prefixOf(candidate)
			temporary := candidate.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED) != 0
			if ok && family(prefix.Addr()) && prefix.Addr().IsGlobalUnicast() && !temporary {
				return prefix, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("vtep %s: the interface has no address that other hosts could reach", name)
}

// defaultDevice finds where packets to the world leave, over IPv4 first.
func defaultDevice(handle *nl.Handle) (string, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := handle.RouteList(nil, family)
		if err != nil {
			return "", fmt.Errorf("vtep: list routes: %w", err)
		}
		for _, route := range routes {
			if route.Dst != nil && !route.Dst.IP.IsUnspecified() || route.LinkIndex == 0 {
				continue
			}
			link, err := handle.LinkByIndex(route.LinkIndex)
			if err == nil {
				return link.Attrs().Name, nil
			}
		}
	}
	return "", errors.New("vtep: this host has no default route to tell its address from: give --vtep")
}

func prefixOf(address netlink.Addr) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(address.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := address.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

// runsContainers says whether the kernel has what containers of the cluster need:
// a network's namespace (vxlan), or the host's end of a container's pair.
func runsContainers(s settings) (bool, error) {
	namespaces, err := filepath.Glob(s.onHost("/run/netns/causeway-*"))
	if err != nil || len(namespaces) > 0 {
		return len(namespaces) > 0, err
	}
	handle, err := nl.Open(netns.None())
	if err != nil {
		return false, fmt.Errorf("look for running containers: %w", err)
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return false, fmt.Errorf("look for running containers: %w", err)
	}
	return slices.ContainsFunc(links, func(link netlink.Link) bool { return nl.IsHostEnd(link.Attrs().Name) }), nil
}

// checkPrivileges refuses to start without what the data planes need.
func checkPrivileges() error {
	var header unix.CapUserHeader
	var data [2]unix.CapUserData
	header.Version = unix.LINUX_CAPABILITY_VERSION_3
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, needed := range []struct {
		name string
		bit  uint
	}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}} {
		if data[needed.bit/32].Effective&(1<<(needed.bit%32)) == 0 {
			return fmt.Errorf("%s is missing: run causeway as root (it makes network devices and namespaces)", needed.name)
		}
	}
	return nil
}
