package routed

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// repairNetwork has the network's bridge, its ports and what the host must let pass,
// and counts what was not so.
func (p *Plane) repairNetwork(ctx context.Context, n *network, want fabric.Segment) (repaired int, err error) {
	n.segment = want
	here, there := gateway.Of(want.Network)
	if !there {
		return 0, errors.New("it has no gateway address")
	}
	here.MTU = want.MTU
	for _, step := range []func() (int, error){
		func() (int, error) { return p.repairBridge(n, here) },
		func() (int, error) { return p.gateways.Ensure(ctx, here) },
		func() (int, error) { return p.repairPorts(n, want) },
		func() (int, error) { return p.repairTunnel(want) },
	} {
		count, err := step()
		repaired += count
		if err != nil {
			return repaired, err
		}
	}
	return repaired, nil
}

// repairBridge makes the bridge, which package gateway then equips.
func (p *Plane) repairBridge(n *network, want gateway.Gateway) (repaired int, err error) {
	link, err := p.kernel.Link(want.Link)
	if errors.Is(err, nl.ErrNotFound) {
		bridge := nl.NewBridge(want.Link)
		bridge.HardwareAddr, bridge.MTU = want.MAC.HardwareAddr(), want.MTU
		if err := p.kernel.LinkAdd(bridge); err != nil {
			return 0, fmt.Errorf("create %s: %w", want.Link, err)
		}
		if err := p.kernel.LinkSetAlias(bridge, want.Alias()); err != nil {
			return 0, fmt.Errorf("mark %s: %w", want.Link, err)
		}
		repaired++
		link, err = p.kernel.Link(want.Link)
	}
	if err != nil {
		return repaired, err
	}
	bridge, ok := link.(*netlink.Bridge)
	if !ok || link.Attrs().Alias != want.Alias() {
		return repaired, fmt.Errorf("a link %s is there already that is not causeway's", want.Link)
	}
	n.bridge = int32(link.Attrs().Index)
	if !nl.IsPlainBridge(bridge) {
		if err := p.kernel.LinkModify(nl.NewBridge(want.Link)); err != nil {
			return repaired, fmt.Errorf("turn multicast snooping and VLANs of %s off: %w", want.Link, err)
		}
		repaired++
	}
	return repaired, nil
}

// repairPorts has the links of the local endpoints filtered, in the bridge and up, as far
// as they are there: Plug makes them. The bridge learns nothing from them: no frame moves
// another's MAC.
func (p *Plane) repairPorts(n *network, want fabric.Segment) (repaired int, err error) {
	ends, err := p.pairsOf(want.Network.ID).List()
	if err != nil {
		return 0, err
	}
	if repaired, err = p.repairFilters(n, want, ends); err != nil {
		return repaired, err
	}
	flags, err := p.kernel.Ports()
	if err != nil {
		return repaired, err
	}
	for _, endpoint := range want.Local {
		port, there := ends[nl.HostEnd(endpoint.ID)]
		if !there {
			continue
		}
		changed, err := p.repairPort(n, port, flags[port.Attrs().Index].Learning, want.MTU, endpoint.MAC)
		if err != nil {
			return repaired, fmt.Errorf("port %s of %s: %w", port.Attrs().Name, gateway.LinkName(want.Network), err)
		}
		if changed {
			repaired++
		}
	}
	return repaired, nil
}

// repairFilters has the filters of the containers' ports in place.
func (p *Plane) repairFilters(n *network, want fabric.Segment, ends map[string]netlink.Link) (repaired int, err error) {
	clear(n.ports)
	ports := portfilter.PortsOf(want, ends, func(int) bool { return true })
	for _, port := range ports {
		n.ports[port.End.Attrs().Index] = port
	}
	return p.filters.Mend(p.kernel, ports)
}

func (p *Plane) repairPort(n *network, port netlink.Link, learns bool, mtu int, mac fabric.MAC) (changed bool, err error) {
	have := port.Attrs()
	if have.MTU < mtu {
		if err := p.kernel.LinkSetMTU(port, mtu); err != nil {
			return true, err
		}
		changed = true
	}
	if have.MasterIndex != int(n.bridge) || have.RawFlags&unix.IFF_UP == 0 {
		if err := errors.Join(p.kernel.LinkSetMasterByIndex(port, int(n.bridge)), p.kernel.LinkSetUp(port)); err != nil {
			return true, err
		}
		learns, changed = true, true
	}
	if learns {
		changed, err = true, p.kernel.StopLearning(port)
	}
	return changed, errors.Join(err, p.bindMAC(port, mac))
}

// bindMAC has the bridge find a container's MAC behind its port, and no frame move it
// (sticky: kernel 4.20).
func (p *Plane) bindMAC(port netlink.Link, mac fabric.MAC) error {
	err := p.kernel.NeighSet(&netlink.Neigh{
		LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
		Flags: netlink.NTF_MASTER | netlink.NTF_STICKY, HardwareAddr: mac.HardwareAddr(),
	})
	if err != nil {
		return fmt.Errorf("set FDB for %s: %w", mac, err)
	}
	return nil
}
