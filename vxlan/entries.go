package vxlan

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// table is one of the kernel's tables that Apply writes. Entries are written in
// the order of the tables: a frame is sent to a MAC only when it can be forwarded.
type table uint8

const (
	// tunnels says a MAC's VTEP; vxlan0's FDB.
	tunnels table = iota
	// floods says a VTEP that gets broadcast, multicast and unknown unicast;
	// vxlan0's FDB, MAC all zero.
	floods
	// ports says the port of br0 that a MAC is behind; the bridge's FDB.
	ports
	// neighbours says an address's MAC; on br0, which answers ARP and ND from it.
	neighbours
)

// slot is the key of an entry. Neighbours have an addr, ports and tunnels a mac,
// floods a VTEP in addr.
type slot struct {
	table table
	addr  address
	mac   fabric.MAC
}

// target is the value of an entry: of neighbours a mac, of tunnels a VTEP, of
// ports a link's index.
type target struct {
	vtep address
	mac  fabric.MAC
	port int32
}

// address is an IP address in two thirds of a netip.Addr's room and without its
// pointer: a host may hold some 100,000 entries.
type address [16]byte

func pack(addr netip.Addr) address { return addr.As16() }

func (a address) addr() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (a address) String() string { return a.addr().String() }

type entries map[slot]target

// entriesOf gives all entries of a segment. Where a record of a local endpoint's
// MAC elsewhere lingers, the local endpoint wins. Local endpoints have a port
// when they are plugged.
func (s *segment) entriesOf(want fabric.Segment) entries {
	all := make(entries, 4*len(want.Remote)+len(want.Flood)+3*len(want.Local))
	for _, peer := range want.Remote {
		all.addNeighbours(peer.Endpoint)
		all[slot{table: ports, mac: peer.MAC}] = target{port: s.tunnel}
		all[slot{table: tunnels, mac: peer.MAC}] = target{vtep: pack(peer.VTEP)}
	}
	for _, endpoint := range want.Local {
		all.addNeighbours(endpoint)
		delete(all, slot{table: ports, mac: endpoint.MAC})
		delete(all, slot{table: tunnels, mac: endpoint.MAC})
		if port := s.ends[nl.HostEnd(endpoint.ID)]; port != 0 {
			all[slot{table: ports, mac: endpoint.MAC}] = target{port: port}
		}
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

// message is the entry as rtnetlink(7) has it.
func (s *segment) message(slot slot, target target) *netlink.Neigh {
	switch slot.table {
	case neighbours:
		family := unix.AF_INET
		if slot.addr.addr().Is6() {
			family = unix.AF_INET6
		}
		return &netlink.Neigh{
			LinkIndex: int(s.bridge), Family: family, State: netlink.NUD_PERMANENT,
			IP: nl.IP(slot.addr.addr()), HardwareAddr: target.mac.HardwareAddr(),
		}
	case ports:
		// Sticky (kernel 4.20): even on a port that learns, a frame that has this
		// MAC as its source does not move the entry.
		return &netlink.Neigh{
			LinkIndex: int(target.port), Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
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
		LinkIndex: int(s.tunnel), Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
		Flags: netlink.NTF_SELF, HardwareAddr: mac, IP: nl.IP(vtep.addr()),
	}
}

// parse is the reverse of message. An entry that Apply would write otherwise is
// not valid: it was made by the kernel or by others.
func parse(message *netlink.Neigh) (slot slot, target target, valid bool) {
	addr := nl.Addr(message.IP)
	if addr.IsValid() {
		slot.addr = pack(addr)
	}
	var mac fabric.MAC
	valid = len(message.HardwareAddr) == len(mac)
	copy(mac[:], message.HardwareAddr)
	switch {
	case message.Family != unix.AF_BRIDGE:
		slot.table, target.mac = neighbours, mac
		return slot, target, valid && message.State == netlink.NUD_PERMANENT
	case message.Flags&netlink.NTF_SELF == 0:
		slot.table, slot.mac, target.port = ports, mac, int32(message.LinkIndex)
		sticky := message.State == netlink.NUD_NOARP && message.Flags&netlink.NTF_STICKY != 0
		return slot, target, valid && sticky
	case mac == fabric.MAC{}:
		slot.table = floods
	default:
		slot.table, slot.mac = tunnels, mac
		slot.addr, target.vtep = target.vtep, slot.addr
	}
	return slot, target, valid && addr.IsValid()
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
