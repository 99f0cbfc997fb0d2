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

// tunnel is a VXLAN device of all routed networks, or of all encrypted ones, and what is
// known of it: for each host that a route goes through it to, the neighbour that says the
// MAC of the next hop, and the FDB entry that says the MAC's VTEP.
type tunnel struct {
	name  string
	vni   uint32
	index int32 // 0: there is none
	// written is the device as it was written last.
	written *netlink.Vxlan
	// uses counts the routes by the entries that they need.
	uses map[entry]int
	have map[entry]bool
	lost map[entry]bool
}

// entry is a neighbour (addr is the next hop) or an FDB entry (addr is the VTEP).
type entry struct {
	fdb  bool
	addr netip.Addr
	mac  fabric.MAC
}

func newTunnel(name string, vni uint32) *tunnel {
	return &tunnel{name: name, vni: vni, uses: make(map[entry]int), have: make(map[entry]bool), lost: make(map[entry]bool)}
}

// gone forgets what the device had, which is deleted.
func (t *tunnel) gone() { *t = *newTunnel(t.name, t.vni) }

// mac is that of a host's end, by the host's VTEP: it stays while a key changes.
func (t *tunnel) mac(vtep netip.Addr) fabric.MAC { return fabric.DeriveMAC(t.name, vtep) }

// tunnels are all.
func (p *Plane) tunnels() [2]*tunnel { return [2]*tunnel{p.open, p.sealed} }

// tunnelOf is the one that a network's packets go through.
func (p *Plane) tunnelOf(network fabric.Network) *tunnel {
	if network.Encrypted {
		return p.sealed
	}
	return p.open
}

// use counts a route to a target, or no longer.
func use(to target, times int) {
	if to.tunnel == nil {
		return
	}
	for _, e := range to.entries() {
		if to.tunnel.uses[e] += times; to.tunnel.uses[e] == 0 {
			delete(to.tunnel.uses, e)
		}
	}
}

// readTunnel notes what the kernel has of a tunnel. Its routes go with the device.
func (p *Plane) readTunnel(t *tunnel) error {
	before := t.have
	t.index, t.have = 0, make(map[entry]bool)
	link, err := p.kernel.Link(t.name)
	if err == nil && link.Attrs().Alias == mark+"tunnel" {
		t.index = int32(link.Attrs().Index)
		err = p.readEntries(t)
	}
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	for entry := range before {
		if !t.have[entry] {
			t.lost[entry] = true
		}
	}
	return nil
}

func (p *Plane) readEntries(t *tunnel) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		list, err := p.kernel.NeighListExecute(netlink.Ndmsg{Family: family, Index: uint32(t.index)})
		if err != nil {
			return fmt.Errorf("read entries of %s: %w", t.name, err)
		}
		for _, message := range list {
			if entry, valid := parseEntry(message); valid && message.LinkIndex == int(t.index) {
				t.have[entry] = true
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

func (t *tunnel) message(e entry) *netlink.Neigh {
	message := &netlink.Neigh{
		LinkIndex: int(t.index), State: unix.NUD_PERMANENT, IP: nl.IP(e.addr), HardwareAddr: e.mac.HardwareAddr(),
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

// ensurePeer has the device and the entries that a route needs. An FDB entry takes the
// place of that to the same host under another key.
func (p *Plane) ensurePeer(segment fabric.Segment, to target) error {
	t := to.tunnel
	if t.index == 0 {
		if err := p.createTunnel(t, segment); err != nil {
			return err
		}
	}
	for _, e := range to.entries() {
		if t.have[e] {
			continue
		}
		if err := p.kernel.NeighSet(t.message(e)); err != nil {
			return fmt.Errorf("set %s on %s: %w", e, t.name, err)
		}
		t.have[e] = true
		delete(t.lost, e)
	}
	return nil
}

// dropPeer deletes the entries that no route needs any more.
func (p *Plane) dropPeer(to target) error {
	if to.tunnel == nil {
		return nil
	}
	var errs []error
	for _, e := range to.entries() {
		if to.tunnel.uses[e] == 0 {
			errs = append(errs, p.deleteEntry(to.tunnel, e))
		}
	}
	return errors.Join(errs...)
}

func (p *Plane) deleteEntry(t *tunnel, e entry) error {
	delete(t.lost, e)
	if !t.have[e] {
		return nil
	}
	// ENOENT: it went, or another took its place.
	err := p.kernel.NeighDel(t.message(e))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s on %s: %w", e, t.name, err)
	}
	delete(t.have, e)
	return nil
}

func (e entry) String() string {
	if e.fdb {
		return fmt.Sprintf("FDB %s to %s", e.mac, e.addr)
	}
	return fmt.Sprintf("neighbour %s at %s", e.addr, e.mac)
}

// device gives a tunnel of this host.
func (p *Plane) device(t *tunnel, segment fabric.Segment) *netlink.Vxlan {
	device := nl.NewVXLAN(t.name, t.vni, segment.VTEP, p.Port)
	device.HardwareAddr = t.mac(p.VTEP).HardwareAddr()
	device.MTU, device.Alias = segment.TunnelMTU, mark+"tunnel"
	return device
}

func (p *Plane) createTunnel(t *tunnel, segment fabric.Segment) error {
	device := p.device(t, segment)
	link, err := p.kernel.CreateVXLAN(device)
	if err != nil {
		return err
	}
	if err := p.kernel.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", t.name, err)
	}
	t.index, t.written = int32(link.Attrs().Index), device
	return nil
}

// repairTunnel has the network's device as it should be, where there is one. Where it
// sends from is changed while it carries, as when this host's key is rotated. One that
// cannot be is deleted: the routes through it go with it, and come back with a new one.
func (p *Plane) repairTunnel(want fabric.Segment) (repaired int, err error) {
	t := p.tunnelOf(want.Network)
	link, err := p.kernel.Link(t.name)
	if errors.Is(err, nl.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	device := p.device(t, want)
	repaired, reason, err := p.kernel.MendVXLAN(device, link)
	if err != nil {
		return repaired, err
	}
	if reason != "" {
		p.Log.Infof("%s is recreated: it %s", t.name, reason)
		p.fresh = false
		if err := p.kernel.Remove(t.name); err != nil {
			return 0, err
		}
		return 1, p.readBack()
	}
	t.written = device
	return repaired, nil
}

// allowSenders lets the hosts with an endpoint on a routed network, and no others, send
// into its tunnel. Until all networks were applied, who was let in before is too, and may
// be a sender of one that is still to come.
func (p *Plane) allowSenders() error {
	senders := make(map[*tunnel]map[netip.Addr]bool)
	for _, n := range p.networks {
		t := p.tunnelOf(n.segment.Network)
		if senders[t] == nil {
			senders[t] = make(map[netip.Addr]bool)
		}
		for _, vtep := range n.segment.Senders() {
			senders[t][vtep] = true
		}
	}
	var errs []error
	for _, t := range p.tunnels() {
		vteps := slices.SortedFunc(maps.Keys(senders[t]), netip.Addr.Compare)
		switch {
		case p.settled && senders[t] == nil:
			errs = append(errs, p.Senders.Forget(t.vni))
		case p.settled:
			errs = append(errs, p.Senders.Allow(t.vni, vteps))
		case senders[t] != nil:
			errs = append(errs, p.Senders.Admit(t.vni, vteps))
		}
	}
	return errors.Join(errs...)
}
