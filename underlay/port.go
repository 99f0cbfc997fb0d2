package underlay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Plug makes the endpoint's pair: one end is a port of the bridge, the other is
// for Docker to take.
func (p *Plane) Plug(_ context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	bridge, err := p.foreignBridge(bridgeName(segment.Network))
	if err != nil {
		return "", wrap(err)
	}
	mtu := segment.Network.MTU
	if mtu == 0 {
		mtu = bridge.Attrs().MTU
	}
	inner := innerName(endpoint.ID)
	_, found, err := p.kernel.find(portName(endpoint.ID))
	if err != nil || found {
		return inner, wrap(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = portName(endpoint.ID), mtu, bridge.Attrs().Index
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: inner, PeerMTU: uint32(mtu), PeerHardwareAddr: endpoint.MAC.HardwareAddr(),
	}
	if err := p.kernel.LinkAdd(pair); err != nil {
		return "", wrap(fmt.Errorf("make link of endpoint %.12s: %w", endpoint.ID, err))
	}
	port, err := p.kernel.LinkByName(attrs.Name)
	if err != nil {
		return "", wrap(fmt.Errorf("look for %s: %w", attrs.Name, err))
	}
	err = errors.Join(
		p.kernel.LinkSetAlias(port, mark+"endpoint "+endpoint.ID),
		p.kernel.LinkSetIP6AddrGenMode(port, addrGenModeNone),
		p.kernel.LinkSetUp(port),
	)
	if err != nil {
		return "", wrap(fmt.Errorf("set up %s: %w", attrs.Name, err))
	}
	return inner, nil
}

// joinPorts has the links of the local endpoints in the bridge and up, as far
// as they are there: Plug makes them. It counts those that were not.
func (p *Plane) joinPorts(segment fabric.Segment) (changed int, err error) {
	bridge, err := p.foreignBridge(bridgeName(segment.Network))
	if err != nil {
		return 0, err
	}
	for _, endpoint := range segment.Local {
		port, found, err := p.kernel.find(portName(endpoint.ID))
		if err != nil {
			return changed, err
		}
		in := found && port.Attrs().MasterIndex == bridge.Attrs().Index && port.Attrs().Flags&unix.IFF_UP != 0
		if !found || in {
			continue
		}
		if err := errors.Join(p.kernel.LinkSetMaster(port, bridge), p.kernel.LinkSetUp(port)); err != nil {
			return changed, fmt.Errorf("put %s into bridge %s: %w", port.Attrs().Name, bridge.Attrs().Name, err)
		}
		changed++
	}
	return changed, nil
}

// Alive tells which local endpoints have a container.
func (p *Plane) Alive(_ context.Context, segment fabric.Segment) (map[string]bool, error) {
	alive := make(map[string]bool)
	for _, endpoint := range segment.Local {
		_, plugged, err := p.kernel.find(portName(endpoint.ID))
		if err != nil {
			return nil, wrap(err)
		}
		_, here, err := p.kernel.find(innerName(endpoint.ID))
		if err != nil {
			return nil, wrap(err)
		}
		alive[endpoint.ID] = plugged && !here
	}
	return alive, nil
}

// unplug removes our links but those of the endpoints to keep.
func (p *Plane) unplug(keep map[string]bool) error {
	links, err := p.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		id, ours := strings.CutPrefix(link.Attrs().Alias, mark+"endpoint ")
		if !ours || keep[id] || link.Attrs().Name != portName(id) {
			continue
		}
		if err := p.kernel.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// addrGenModeNone keeps a port without an IPv6 address of its own (IN6_ADDR_GEN_MODE_NONE).
const addrGenModeNone = 1

// portName is that of the host's end, innerName that of the container's.
func portName(endpoint string) string  { return fabric.DeviceName("cwu-", endpoint) }
func innerName(endpoint string) string { return fabric.DeviceName("cwi-", endpoint) }
