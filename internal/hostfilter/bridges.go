package hostfilter

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/nl"
)

// lanBridges are the bridges that are parts of the LAN, sorted: one with the VTEP on it,
// one of an underlay network, and one whose ports are not all of containers and virtual
// machines. What comes in from these is a machine of the LAN.
func (f *Filter) lanBridges() ([]string, error) {
	links, err := f.host.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addresses, err := f.host.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	lan := make(map[int]bool)
	for _, address := range addresses {
		lan[address.LinkIndex] = lan[address.LinkIndex] || nl.Addr(address.IP) == f.VTEP.Unmap()
	}
	for _, link := range links {
		if master := link.Attrs().MasterIndex; master != 0 && !guest(link) {
			lan[master] = true
		}
	}
	names := make(map[string]bool)
	for _, link := range links {
		underlay := strings.HasPrefix(link.Attrs().Alias, underlayMark)
		if link.Type() == "bridge" && (underlay || lan[link.Attrs().Index]) {
			names[link.Attrs().Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// underlayMark begins the alias of underlay networks' bridges.
const underlayMark = "causeway underlay "

// guest says that a link may be the host's end of a container's or a virtual machine's.
func guest(link netlink.Link) bool { return link.Type() == "veth" || link.Type() == "tuntap" }

// updateBridges writes which bridges are parts of the LAN.
func (f *Filter) updateBridges() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	lans, err := f.lanBridges()
	if err != nil {
		return fmt.Errorf("host filter: %w", err)
	}
	added, gone := difference(f.lans, lans, strings.Compare)
	f.lans = lans
	return f.write("say which bridges are parts of the LAN", elements{lansSet: lanElements(added)}, elements{lansSet: lanElements(gone)})
}
