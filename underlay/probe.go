package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/addrprobe"
)

// Probe asks on the network's wire whether a station has addr that no record
// tells of, and returns its MAC. With -o probe=false, or as long as this host
// has no way to the wire, nobody is asked. It may be called from any goroutine.
func (p *Plane) Probe(ctx context.Context, network fabric.Network, addr netip.Addr) (holder fabric.MAC, taken bool, err error) {
	if network.NoProbe {
		return fabric.MAC{}, false, nil
	}
	link, found, err := p.wayOut(network)
	if err != nil || !found {
		return fabric.MAC{}, false, wrap(err)
	}
	if own, err := p.isHosts(addr); err != nil || own {
		copy(holder[:], link.Attrs().HardwareAddr)
		return holder, own, wrap(err)
	}
	holder, taken, err = addrprobe.Probe(ctx, p.kernel.NS(), link, addr)
	if errors.Is(err, unix.ENETDOWN) {
		return fabric.MAC{}, false, nil
	}
	if err != nil {
		return fabric.MAC{}, false, wrap(fmt.Errorf("probe %s on %s: %w", addr, link.Attrs().Name, err))
	}
	return holder, taken, nil
}

// wayOut is the network's bridge or, before it is made, the NIC that will be its port.
func (p *Plane) wayOut(network fabric.Network) (netlink.Link, bool, error) {
	link, found, err := p.find(bridgeName(network))
	if found || err != nil || network.Parent == "" || network.VLAN != 0 {
		return link, found, err
	}
	return p.find(network.Parent)
}

// isHosts says whether the host itself has addr: its own frames do not come back to it.
func (p *Plane) isHosts(addr netip.Addr) (bool, error) {
	addresses, err := p.kernel.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if have, ok := netip.AddrFromSlice(a.IP); ok && have.Unmap() == addr.Unmap() {
			return true, nil
		}
	}
	return false, nil
}
