package routed

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// tunnelName is the VXLAN device of all routed networks.
const tunnelName = "cw-routed"

// tunnel is what is known of the VXLAN device: for each host that a route goes
// through it to, the neighbour that says the MAC of the next hop, and the FDB entry
// that says the MAC's VTEP.
type tunnel struct {
	index int32 // 0: there is none
	mtu   int   // as it was written
	// uses counts the routes by their next hop.
	uses map[end]int
	have map[entry]bool
	lost map[entry]bool
}

// end is a host's end of the tunnel under one of its addresses.
type end struct {
	via, vtep netip.Addr
}

// entry is a neighbour (addr is the next hop) or an FDB entry (addr is the VTEP).
type entry struct {
	fdb  bool
	addr netip.Addr
	mac  fabric.MAC
}

func newTunnel() tunnel {
	return tunnel{uses: make(map[end]int), have: make(map[entry]bool), lost: make(map[entry]bool)}
}

func (t *tunnel) use(to target, times int) {
	if !to.vtep.IsValid() {
		return
	}
	key := end{to.via, to.vtep}
	if t.uses[key] += times; t.uses[key] == 0 {
		delete(t.uses, key)
	}
}

func entriesOf(e end) (neighbour, fdb entry) {
	mac := tunnelMAC(e.vtep)
	return entry{addr: e.via, mac: mac}, entry{fdb: true, addr: e.vtep, mac: mac}
}

// readTunnel notes what the kernel has of the tunnel. Its routes go with the device.
func (p *Plane) readTunnel() error {
	before := p.tunnel.have
	p.tunnel.index, p.tunnel.have = 0, make(map[entry]bool)
	link, err := p.kernel.Link(tunnelName)
	if err == nil && link.Attrs().Alias == mark+"tunnel" {
		p.tunnel.index = int32(link.Attrs().Index)
		err = p.readEntries()
	}
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	for entry := range before {
		if !p.tunnel.have[entry] {
			p.tunnel.lost[entry] = true
		}
	}
	return nil
}

func (p *Plane) readEntries() error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		list, err := p.kernel.NeighListExecute(netlink.Ndmsg{Family: family, Index: uint32(p.tunnel.index)})
		if err != nil {
			return fmt.Errorf("read entries of %s: %w", tunnelName, err)
		}
		for _, message := range list {
			if entry, valid := parseEntry(message); valid && message.LinkIndex == int(p.tunnel.index) {
				p.tunnel.have[entry] = true
			}
		}
	}
	return nil
}

func parseEntry(message netlink.Neigh) (found entry, valid bool) {
	if len(message.HardwareAddr) != len(found.mac) || message.State&unix.NUD_PERMANENT == 0 {
		return found, false
	}
	found = entry{fdb: message.Family == unix.AF_BRIDGE, addr: nl.Addr(message.IP), mac: fabric.MAC(message.HardwareAddr)}
	return found, found.addr.IsValid() && found.mac != fabric.MAC{}
}

func (p *Plane) entryMessage(e entry) *netlink.Neigh {
	message := &netlink.Neigh{
		LinkIndex: int(p.tunnel.index), State: unix.NUD_PERMANENT, IP: nl.IP(e.addr), HardwareAddr: e.mac.HardwareAddr(),
		Family: unix.AF_INET,
	}
	switch {
	case e.fdb:
		message.Family, message.Flags = unix.AF_BRIDGE, unix.NTF_SELF
	case e.addr.Is6():
		message.Family = unix.AF_INET6
	}
	return message
}

// ensurePeer has the device and the entries that a route needs.
func (p *Plane) ensurePeer(segment fabric.Segment, to target) error {
	if p.tunnel.index == 0 {
		if err := p.createTunnel(segment); err != nil {
			return err
		}
	}
	neighbour, fdb := entriesOf(end{to.via, to.vtep})
	for _, e := range []entry{fdb, neighbour} {
		if p.tunnel.have[e] {
			continue
		}
		if err := p.kernel.NeighSet(p.entryMessage(e)); err != nil {
			return fmt.Errorf("set %s on %s: %w", e, tunnelName, err)
		}
		p.tunnel.have[e] = true
		delete(p.tunnel.lost, e)
	}
	return nil
}

// dropPeer deletes the entries that no route needs any more.
func (p *Plane) dropPeer(to target) error {
	if !to.vtep.IsValid() {
		return nil
	}
	neighbour, fdb := entriesOf(end{to.via, to.vtep})
	var errs []error
	if p.tunnel.uses[end{to.via, to.vtep}] == 0 {
		errs = append(errs, p.deleteEntry(neighbour))
	}
	if p.tunnel.uses[end{to.vtep, to.vtep}]+p.tunnel.uses[end{linkLocal(to.vtep), to.vtep}] == 0 {
		errs = append(errs, p.deleteEntry(fdb))
	}
	return errors.Join(errs...)
}

func (p *Plane) deleteEntry(e entry) error {
	if !p.tunnel.have[e] {
		return nil
	}
	err := p.kernel.NeighDel(p.entryMessage(e))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s on %s: %w", e, tunnelName, err)
	}
	delete(p.tunnel.have, e)
	return nil
}

func (e entry) String() string {
	if e.fdb {
		return fmt.Sprintf("FDB %s to %s", e.mac, e.addr)
	}
	return fmt.Sprintf("neighbour %s at %s", e.addr, e.mac)
}

// device gives the tunnel of this host.
func (p *Plane) device(segment fabric.Segment) *netlink.Vxlan {
	device := nl.NewVXLAN(tunnelName, fabric.RoutedVNI, segment.VTEP, p.Port)
	device.HardwareAddr = tunnelMAC(segment.VTEP).HardwareAddr()
	device.MTU = segment.TunnelMTU
	return device
}

func (p *Plane) createTunnel(segment fabric.Segment) error {
	device := p.device(segment)
	if err := p.kernel.LinkAdd(device); err != nil {
		return fmt.Errorf("create %s with VNI %d on UDP port %d: %w", tunnelName, device.VxlanId, p.Port, err)
	}
	link, err := p.kernel.Link(tunnelName)
	if err != nil {
		return err
	}
	if err := p.kernel.LinkSetAlias(link, mark+"tunnel"); err != nil {
		return fmt.Errorf("mark %s: %w", tunnelName, err)
	}
	if err := p.kernel.Silence(link); err != nil {
		return err
	}
	if err := p.kernel.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", tunnelName, err)
	}
	p.tunnel.index, p.tunnel.mtu = int32(link.Attrs().Index), device.MTU
	return nil
}

// repairTunnel has the device as it should be, where there is one. One that cannot be
// is deleted: the routes through it go with it, and come back with a new one.
func (p *Plane) repairTunnel(want fabric.Segment) (repaired int, err error) {
	link, err := p.kernel.Link(tunnelName)
	if errors.Is(err, nl.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	have, device := link.Attrs(), p.device(want)
	if have.Alias != mark+"tunnel" {
		return 0, fmt.Errorf("a link %s is there already that is not causeway's", tunnelName)
	}
	if reason := nl.Incompatible(device, link); reason != "" || have.HardwareAddr.String() != device.HardwareAddr.String() {
		p.Log.Infof("%s is recreated: it %s", tunnelName, reason)
		p.fresh = false
		if err := p.kernel.Remove(tunnelName); err != nil {
			return 0, err
		}
		return 1, p.readBack()
	}
	p.tunnel.mtu = device.MTU
	if have.MTU != device.MTU {
		repaired++
		if err := p.kernel.LinkSetMTU(link, device.MTU); err != nil {
			return repaired, fmt.Errorf("set MTU of %s to %d: %w", tunnelName, device.MTU, err)
		}
	}
	if have.RawFlags&unix.IFF_UP == 0 {
		repaired++
		if err := p.kernel.LinkSetUp(link); err != nil {
			return repaired, fmt.Errorf("set %s up: %w", tunnelName, err)
		}
	}
	return repaired, nil
}

// allowSenders lets the hosts with an endpoint on a routed network, and no others, send
// into the tunnel. Until all networks were applied, who was let in before is, and may be
// a sender of one that is still to come.
func (p *Plane) allowSenders() error {
	if !p.settled {
		return nil
	}
	if len(p.networks) == 0 {
		return p.Senders.Forget(fabric.RoutedVNI)
	}
	senders := make(map[netip.Addr]bool)
	for _, n := range p.networks {
		for _, vtep := range n.segment.Flood {
			senders[vtep] = true
		}
	}
	return p.Senders.Allow(fabric.RoutedVNI, slices.SortedFunc(maps.Keys(senders), netip.Addr.Compare))
}
