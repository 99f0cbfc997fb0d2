package underlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// Plug makes the endpoint's pair: one end is a port of the bridge, the other is
// for Docker to take. The neighbours are told at once where the address is now;
// when the container is up, Apply tells them again.
func (p *Plane) Plug(_ context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bridge, err := p.bridge(bridgeName(segment.Network))
	if err != nil {
		return "", wrap(err)
	}
	// A bridge has the MTU of its smallest port: the port has the bridge's.
	mtu := bridge.Attrs().MTU
	pair := nl.Pair{
		Endpoint: endpoint.ID, MAC: endpoint.MAC, MTU: cmp.Or(segment.Network.MTU, mtu), HostMTU: mtu,
		Alias: p.pairsOf(segment.Network.ID).Mark + endpoint.ID, Master: bridge.Attrs().Index,
	}
	end, err := pair.Ensure(p.kernel, p.kernel)
	if err != nil {
		return "", wrap(err)
	}
	if err := p.filters.Put(p.kernel, portfilter.Port{End: end, Rule: portfilter.RuleOf(segment.Network, endpoint)}); err != nil {
		return "", wrap(err)
	}
	// As a port it never hears the container; without the bridge it would.
	if err := p.kernel.Isolate(nl.HostEnd(endpoint.ID)); err != nil && !errors.Is(err, unix.EROFS) {
		return "", wrap(err)
	}
	p.unheard[endpoint.ID] = segment.Network.ID
	return nl.ContainerEnd(endpoint.ID), wrap(p.announce(bridge, endpoint))
}

// pairsOf are the pairs of a network; of all for the empty one. The alias of a
// port says whose it is, for `ip link` to show and for us to know after a restart.
func (p *Plane) pairsOf(network string) nl.Pairs {
	pairs := nl.Pairs{Host: p.kernel, Home: p.kernel, Mark: mark + "endpoint "}
	if network != "" {
		pairs.Mark += network + "/"
	}
	return pairs
}

// Alive tells which local endpoints have a container.
func (p *Plane) Alive(ctx context.Context, segment fabric.Segment) (map[string]bool, error) {
	alive, err := p.pairsOf(segment.Network.ID).Alive(ctx, segment.Local)
	return alive, wrap(err)
}

// joinPorts has the links of the local endpoints in the bridge, up, large enough and filtered, as far
// as they are there: Plug makes them. It counts what was not so.
func (p *Plane) joinPorts(segment fabric.Segment) (changed int, err error) {
	bridge, err := p.bridge(bridgeName(segment.Network))
	if err != nil {
		return 0, err
	}
	wanted, ends := p.slotIn(bridge), make(map[string]netlink.Link)
	for _, endpoint := range segment.Local {
		port, found, err := p.find(nl.HostEnd(endpoint.ID))
		if err != nil {
			return changed, err
		}
		if !found {
			continue
		}
		ends[port.Attrs().Name] = port
		if wanted.lacks(port) {
			mtu := max(port.Attrs().MTU, wanted.mtu)
			if err := errors.Join(p.kernel.LinkSetMTU(port, mtu), p.kernel.LinkSetMaster(port, bridge), p.kernel.LinkSetUp(port)); err != nil {
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
	filtered, err := p.filters.Mend(p.kernel, portfilter.PortsOf(segment, ends, func(int) bool { return true }))
	return changed + filtered, err
}

// announce tells the neighbours that the endpoint has its addresses now.
func (p *Plane) announce(bridge netlink.Link, endpoint fabric.Endpoint) error {
	if err := addrprobe.Announce(p.kernel.NS(), bridge, endpoint.MAC, endpoint.Addrs); err != nil {
		return fmt.Errorf("endpoint %.12s: %w", endpoint.ID, err)
	}
	return nil
}

// hasCarrier tells of a veth that its other end is up.
func hasCarrier(link netlink.Link) bool { return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }

// find is Link for what may well be missing.
func (p *Plane) find(name string) (link netlink.Link, found bool, err error) {
	link, err = p.kernel.Link(name)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, false, nil
	}
	return link, err == nil, err
}
