package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// table is one of the kernel's tables that Apply writes.
type table uint8

const (
	// neighbours says an address's MAC; on br0, which answers ARP and ND from it.
	neighbours table = iota
	// ports says that a MAC is behind vxlan0; the bridge's FDB.
	ports
	// tunnels says a MAC's VTEP; vxlan0's FDB.
	tunnels
	// floods says a VTEP that gets what is for all; vxlan0's FDB, MAC all zero.
	floods
)

// slot is the key of an entry. Neighbours have an addr, ports and tunnels a mac,
// floods a VTEP in addr.
type slot struct {
	table table
	addr  address
	mac   fabric.MAC
}

// target is what an entry says of its slot: neighbours a mac, tunnels a VTEP.
type target struct {
	vtep address
	mac  fabric.MAC
}

// address is an IP address in two thirds of a netip.Addr's room and without its
// pointer: a host may hold some 100,000 entries.
type address [16]byte

func pack(addr netip.Addr) address { return addr.As16() }

func (a address) addr() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (a address) String() string { return a.addr().String() }

type entries map[slot]target

// entriesOf gives all entries of a segment. Its own endpoints have neighbours
// only, so that nobody's question for them leaves the host; where a record of
// the same address elsewhere lingers, they win.
func entriesOf(want fabric.Segment) entries {
	all := make(entries, 4*len(want.Remote)+len(want.Flood)+2*len(want.Local))
	for _, peer := range want.Remote {
		all.addNeighbours(peer.Endpoint)
		all[slot{table: ports, mac: peer.MAC}] = target{}
		all[slot{table: tunnels, mac: peer.MAC}] = target{vtep: pack(peer.VTEP)}
	}
	for _, endpoint := range want.Local {
		all.addNeighbours(endpoint)
		delete(all, slot{table: ports, mac: endpoint.MAC})
		delete(all, slot{table: tunnels, mac: endpoint.MAC})
	}
	for _, vtep := range want.Flood {
		all[slot{table: floods, addr: pack(vtep)}] = target{}
	}
	return all
}

func (e entries) addNeighbours(endpoint fabric.Endpoint) {
	for _, prefix := range endpoint.Addrs {
		e[slot{table: neighbours, addr: pack(prefix.Addr())}] = target{mac: endpoint.MAC}
	}
}

// differences counts the slots in which e and other are not the same.
func (e entries) differences(other entries) int {
	count := 0
	for slot, target := range e {
		if found, ok := other[slot]; !ok || found != target {
			count++
		}
	}
	for slot := range other {
		if _, ok := e[slot]; !ok {
			count++
		}
	}
	return count
}

// write makes the kernel's entries those of want, and notes what it has done.
// An entry that changes is replaced in one step: no packet finds it missing.
func (s *segment) write(want entries) error {
	for slot, target := range want {
		if have, ok := s.written[slot]; ok && have == target {
			continue
		}
		if err := s.put(slot, target); err != nil {
			return fmt.Errorf("set %s: %w", describe(slot, target), err)
		}
		s.written[slot] = target
	}
	for slot, target := range s.written {
		if _, ok := want[slot]; ok {
			continue
		}
		err := s.NeighDel(s.message(slot, target))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", describe(slot, target), err)
		}
		delete(s.written, slot)
	}
	return nil
}

func (s *segment) put(slot slot, target target) error {
	if slot.table == floods { // many targets of one MAC
		return s.NeighAppend(s.message(slot, target))
	}
	return s.NeighSet(s.message(slot, target))
}

// message is the entry as rtnetlink(7) has it.
func (s *segment) message(slot slot, target target) *netlink.Neigh {
	switch slot.table {
	case neighbours:
		family := unix.AF_INET
		if slot.addr.addr().Is6() {
			family = unix.AF_INET6
		}
		return &netlink.Neigh{
			LinkIndex: s.bridge, Family: family, State: netlink.NUD_PERMANENT,
			IP: nl.IP(slot.addr.addr()), HardwareAddr: target.mac.HardwareAddr(),
		}
	case ports:
		// Sticky (kernel 4.20): a local container that sends with this MAC does
		// not draw its traffic.
		return &netlink.Neigh{
			LinkIndex: s.tunnel, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
			Flags: netlink.NTF_MASTER | netlink.NTF_STICKY, HardwareAddr: slot.mac.HardwareAddr(),
		}
	case tunnels:
		return s.tunnelMessage(slot.mac.HardwareAddr(), target.vtep)
	default:
		return s.tunnelMessage(fabric.MAC{}.HardwareAddr(), slot.addr)
	}
}

func (s *segment) tunnelMessage(mac net.HardwareAddr, vtep address) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: s.tunnel, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
		Flags: netlink.NTF_SELF, HardwareAddr: mac, IP: nl.IP(vtep.addr()),
	}
}

// read lists the entries that the kernel has, by two dumps.
func (s *segment) read() (entries, error) {
	all := make(entries)
	for family, index := range map[uint8]int{unix.AF_UNSPEC: s.bridge, unix.AF_BRIDGE: s.tunnel} {
		list, err := s.NeighListExecute(netlink.Ndmsg{Family: family, Index: uint32(index)})
		if err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
		for _, message := range list {
			if slot, target, ok := s.parse(message); ok {
				all[slot] = target
			}
		}
	}
	return all, nil
}

// parse is the reverse of message; not ok is what the kernel made by itself.
func (s *segment) parse(message netlink.Neigh) (slot, target, bool) {
	if len(message.HardwareAddr) != len(fabric.MAC{}) {
		return slot{}, target{}, false
	}
	mac, to := fabric.MAC(message.HardwareAddr), nl.Addr(message.IP)
	addr := pack(to)
	switch {
	case message.Family != unix.AF_BRIDGE:
		return slot{table: neighbours, addr: addr}, target{mac: mac}, message.State == netlink.NUD_PERMANENT
	case message.Flags&netlink.NTF_SELF == 0:
		sticky := message.State == netlink.NUD_NOARP && message.Flags&netlink.NTF_STICKY != 0
		return slot{table: ports, mac: mac}, target{}, sticky
	case mac == fabric.MAC{}:
		return slot{table: floods, addr: addr}, target{}, to.IsValid()
	default:
		return slot{table: tunnels, mac: mac}, target{vtep: addr}, to.IsValid()
	}
}

func describe(slot slot, target target) string {
	switch slot.table {
	case neighbours:
		return fmt.Sprintf("neighbour %s to %s", slot.addr, target.mac)
	case ports:
		return fmt.Sprintf("FDB of the bridge for %s", slot.mac)
	case tunnels:
		return fmt.Sprintf("FDB %s to %s", slot.mac, target.vtep)
	default:
		return fmt.Sprintf("flooding to %s", slot.addr)
	}
}
