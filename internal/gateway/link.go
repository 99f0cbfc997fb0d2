package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// flaw is something that is not as it should be, and its repair.
type flaw struct {
	what   string
	repair func() error
}

// equip makes the interface as it should be, and counts what was not.
func (g *Gateways) equip(gateway Gateway) (index, repaired int, err error) {
	link, err := g.Host.Link(gateway.Link)
	if err != nil {
		return 0, 0, err
	}
	settings, err := g.settingFlaws(gateway)
	if err != nil {
		return 0, 0, err
	}
	others, err := g.linkFlaws(gateway, link)
	if err != nil {
		return 0, 0, err
	}
	for _, flaw := range slices.Concat(settings, others) {
		if err := flaw.repair(); err != nil {
			return 0, repaired, fmt.Errorf("%s: %w", flaw.what, err)
		}
		repaired++
	}
	return link.Attrs().Index, repaired, nil
}

// linkFlaws are those of what the kernel tells changes of: the interface and its
// addresses. An interface that is down loses its IPv6 addresses: it is set up first.
func (g *Gateways) linkFlaws(gateway Gateway, link netlink.Link) (flaws []flaw, err error) {
	have := link.Attrs()
	if alias := gateway.Alias(); have.Alias != alias {
		flaws = append(flaws, flaw{"mark it", func() error { return g.Host.LinkSetAlias(link, alias) }})
	}
	if have.HardwareAddr.String() != gateway.MAC.String() {
		flaws = append(flaws, flaw{"set its MAC", func() error { return g.Host.LinkSetHardwareAddr(link, gateway.MAC.HardwareAddr()) }})
	}
	if have.MTU < gateway.MTU { // never lowered, as the containers' are not
		flaws = append(flaws, flaw{fmt.Sprintf("set its MTU to %d", gateway.MTU), func() error { return g.Host.LinkSetMTU(link, gateway.MTU) }})
	}
	if have.Flags&net.FlagUp == 0 {
		flaws = append(flaws, flaw{"set it up", func() error { return g.Host.LinkSetUp(link) }})
	}
	missing, err := g.missing(gateway, link)
	if err != nil {
		return nil, err
	}
	for _, addr := range missing {
		flaws = append(flaws, flaw{"give it " + addr.String(), func() error { return g.Host.AddrReplace(link, address(addr)) }})
	}
	return flaws, nil
}

// missing gives the addresses that the interface lacks.
func (g *Gateways) missing(gateway Gateway, link netlink.Link) ([]netip.Prefix, error) {
	list, err := g.Host.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list its addresses: %w", err)
	}
	var missing []netip.Prefix
	for _, want := range gateway.all() {
		if !slices.ContainsFunc(list, func(have netlink.Addr) bool { return prefixOfNet(have.IPNet) == want }) {
			missing = append(missing, want)
		}
	}
	return missing, nil
}

// address is without duplicate address detection: all hosts have it, and none is asked.
func address(prefix netip.Prefix) *netlink.Addr {
	found := &netlink.Addr{IPNet: &net.IPNet{IP: nl.IP(prefix.Addr()), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}}
	if prefix.Addr().Is6() {
		found.Flags = unix.IFA_F_NODAD
	}
	return found
}

func prefixOfNet(network *net.IPNet) netip.Prefix {
	bits, _ := network.Mask.Size()
	return netip.PrefixFrom(nl.Addr(network.IP), bits)
}

// settings are the interface's below /proc/sys/net (ip-sysctl in the kernel's
// documentation). It answers ARP for its own addresses alone and asks with them, takes
// nothing from the containers' router advertisements and redirects, sends none, and tests
// no address for duplicates.
func settings(gateway Gateway) []setting {
	list := []setting{
		{"ipv4/conf", "forwarding", "1"}, {"ipv4/conf", "arp_ignore", "1"}, {"ipv4/conf", "arp_announce", "2"},
		{"ipv4/conf", "accept_redirects", "0"}, {"ipv4/conf", "send_redirects", "0"},
	}
	six := func(addr netip.Prefix) bool { return addr.Addr().Is6() }
	if !slices.ContainsFunc(gateway.Addrs, six) {
		return append(list, setting{"ipv6/conf", "disable_ipv6", "1"})
	}
	const byMAC = "0" // IN6_ADDR_GEN_MODE_EUI64
	return append(list,
		setting{"ipv6/conf", "accept_ra", "0"}, setting{"ipv6/conf", "accept_redirects", "0"}, setting{"ipv6/conf", "accept_dad", "0"},
		setting{"ipv6/conf", "dad_transmits", "0"},
		setting{"ipv6/conf", "addr_gen_mode", byMAC}, setting{"ipv6/conf", "forwarding", "1"}, setting{"ipv6/conf", "disable_ipv6", "0"},
	)
}

// setting is one of an interface's.
type setting struct{ folder, name, value string }

func (g *Gateways) settingFlaws(gateway Gateway) (flaws []flaw, err error) {
	err = nl.Do(g.Host.NS(), func() error {
		for _, s := range settings(gateway) {
			path := strings.Join([]string{"/proc/sys/net", s.folder, gateway.Link, s.name}, "/")
			text, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) && s.folder == "ipv6/conf" && s.value == "1" {
				continue // the kernel has no IPv6
			}
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(text)) != s.value {
				flaws = append(flaws, flaw{"set " + path, func() error { return g.set(path, s.value) }})
			}
		}
		return nil
	})
	return flaws, err
}

// set writes a setting of the host's namespace.
func (g *Gateways) set(path, value string) error {
	return nl.Do(g.Host.NS(), func() error { return os.WriteFile(path, []byte(value), 0) })
}

// pruneLinks deletes the plane's interfaces that are not kept.
func (g *Gateways) pruneLinks(kept map[string]bool) error {
	links, err := g.Host.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		name := link.Attrs().Name
		if strings.HasPrefix(name, prefixOf(g.Mode)) && strings.HasPrefix(link.Attrs().Alias, aliasPrefix) && !kept[name] {
			errs = append(errs, g.Host.Remove(name))
		}
	}
	return errors.Join(errs...)
}
