package underlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Plug makes the endpoint's pair: one end is a port of the bridge, the other is
// for Docker to take. The neighbours are told at once where the address is now;
// when the container is up, Apply tells them again.
func (p *Plane) Plug(_ context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	bridge, err := p.bridge(bridgeName(segment.Network))
	if err != nil {
		return "", wrap(err)
	}
	// A bridge has the MTU of its smallest port: the port has the bridge's.
	mtu := bridge.Attrs().MTU
	pair := nl.Pair{
		Endpoint: endpoint.ID, MAC: endpoint.MAC, MTU: cmp.Or(segment.Network.MTU, mtu), HostMTU: mtu,
		Alias: aliasOf(segment.Network.ID, endpoint.ID), Master: bridge.Attrs().Index,
	}
	if _, err := pair.Ensure(p.kernel.Handle, p.kernel.Handle); err != nil {
		return "", wrap(err)
	}
	p.unheard[endpoint.ID] = segment.Network.ID
	return nl.ContainerEnd(endpoint.ID), wrap(p.announce(bridge, endpoint))
}

// aliasOf is what a container's port bears: whose it is, for `ip link` to show
// and for us to know after a restart.
func aliasOf(network, endpoint string) string { return mark + "endpoint " + network + "/" + endpoint }

func parseAlias(alias string) (network, endpoint string, ours bool) {
	ids, ours := strings.CutPrefix(alias, mark+"endpoint ")
	network, endpoint, split := strings.Cut(ids, "/")
	return network, endpoint, ours && split
}

// joinPorts has the links of the local endpoints in the bridge and up, as far
// as they are there: Plug makes them. It counts those that were not.
func (p *Plane) joinPorts(segment fabric.Segment) (changed int, err error) {
	bridge, err := p.bridge(bridgeName(segment.Network))
	if err != nil {
		return 0, err
	}
	for _, endpoint := range segment.Local {
		port, found, err := p.kernel.find(nl.HostEnd(endpoint.ID))
		if err != nil {
			return changed, err
		}
		if !found {
			continue
		}
		if port.Attrs().MasterIndex != bridge.Attrs().Index || port.Attrs().RawFlags&unix.IFF_UP == 0 {
			if err := errors.Join(p.kernel.LinkSetMaster(port, bridge), p.kernel.LinkSetUp(port)); err != nil {
				return changed, fmt.Errorf("put %s into bridge %s: %w", port.Attrs().Name, bridge.Attrs().Name, err)
			}
			changed++
		}
		if p.unheard[endpoint.ID] != "" && hasCarrier(port) {
			if err := p.announce(bridge, endpoint); err != nil {
				return changed, err
			}
			delete(p.unheard, endpoint.ID)
		}
	}
	return changed, nil
}

// waiting says that a container came up whose address was not announced since.
func (p *Plane) waiting() bool {
	for id := range p.unheard {
		if port, found, err := p.kernel.find(nl.HostEnd(id)); err == nil && found && hasCarrier(port) {
			return true
		}
	}
	return false
}

// hasCarrier tells of a veth that its other end is up.
func hasCarrier(link netlink.Link) bool { return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }

// Alive tells which local endpoints have a container.
func (p *Plane) Alive(_ context.Context, segment fabric.Segment) (map[string]bool, error) {
	alive := make(map[string]bool)
	for _, endpoint := range segment.Local {
		_, plugged, err := p.kernel.find(nl.HostEnd(endpoint.ID))
		if err != nil {
			return nil, wrap(err)
		}
		_, here, err := p.kernel.find(nl.ContainerEnd(endpoint.ID))
		if err != nil {
			return nil, wrap(err)
		}
		alive[endpoint.ID] = plugged && !here
	}
	return alive, nil
}

// unplug removes our links but those for which keep holds.
func (p *Plane) unplug(keep func(network, endpoint string) bool) error {
	links, err := p.kernel.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		network, endpoint, ours := parseAlias(link.Attrs().Alias)
		if !ours || keep(network, endpoint) || link.Attrs().Name != nl.HostEnd(endpoint) {
			continue
		}
		errs = append(errs, p.kernel.Remove(link.Attrs().Name))
	}
	return errors.Join(errs...)
}
