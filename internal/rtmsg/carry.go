package rtmsg

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Device is what messages are of.
type Device struct {
	Index int
	Name  string
}

// On gives m as it reads on the device to, when it was read on from.
func (m Message) On(from, to Device) Message {
	n := m.Clone()
	switch m.Kind {
	case Address:
		binary.NativeEndian.PutUint32(n.header[4:], uint32(to.Index))
		if label, ok := relabel(cString(m.Get(unix.IFA_LABEL)), from.Name, to.Name); ok {
			n.set(unix.IFA_LABEL, append([]byte(label), 0))
		}
	case Route:
		n.routeOn(from, to)
	case NextHop:
		n.header[1] = 0 // the scope, which a request must not have
		binary.NativeEndian.PutUint32(n.header[4:], binary.NativeEndian.Uint32(n.header[4:])&unix.RTNH_F_ONLINK)
		n.setUint32(unix.NHA_OIF, uint32(to.Index))
	case Neighbour:
		binary.NativeEndian.PutUint32(n.header[4:], uint32(to.Index))
		n.drop(unix.NDA_CACHEINFO, unix.NDA_PROBES)
		if State := m.neighbourState(); State&(unix.NUD_PERMANENT|unix.NUD_NOARP) == 0 {
			binary.NativeEndian.PutUint16(n.header[8:], unix.NUD_STALE)
		}
	}
	return n
}

// relabel turns eth0:1 into br0:1. A label that is not the device's own, or
// would not fit into IFNAMSIZ, stays: the kernel takes any.
func relabel(label, from, to string) (string, bool) {
	rest, own := strings.CutPrefix(label, from)
	if !own || rest != "" && rest[0] != ':' || len(to)+len(rest) >= unix.IFNAMSIZ {
		return "", false
	}
	return to + rest, true
}

// routeOn turns the route's device, or those of its next hops, from one into
// the other, and what only a reply has into what a request wants.
func (m *Message) routeOn(from, to Device) {
	binary.NativeEndian.PutUint32(m.header[8:], binary.NativeEndian.Uint32(m.header[8:])&unix.RTNH_F_ONLINK)
	if m.uint32(unix.RTA_OIF) == uint32(from.Index) {
		m.setUint32(unix.RTA_OIF, uint32(to.Index))
	}
	if hops := m.Get(unix.RTA_MULTIPATH); hops != nil {
		hops = slices.Clone(hops)
		for hop := range nextHops(hops) {
			hop[2] &= unix.RTNH_F_ONLINK
			if binary.NativeEndian.Uint32(hop[4:]) == uint32(from.Index) {
				binary.NativeEndian.PutUint32(hop[4:], uint32(to.Index))
			}
		}
		m.set(unix.RTA_MULTIPATH, hops)
	}
	if left := m.lifetime(); left > 0 {
		m.setUint32(unix.RTA_EXPIRES, uint32(max(1, left/100)))
	}
	// The kernel refuses a router's next advertisement where it finds the same route
	// made by a program (ndisc_router_discovery: "failed to add default route"), and
	// with it the advertised prefixes: what is carried leaves that place to it, with
	// the next metric, and runs out.
	if m.ByRouter() {
		m.setUint32(unix.RTA_PRIORITY, m.uint32(unix.RTA_PRIORITY)|1)
	}
	m.drop(unix.RTA_CACHEINFO)
	m.dropNextHop()
}

// ByRouter tells a default route that a router advertised, for a time (RFC 4861 §6.3.4).
func (m Message) ByRouter() bool {
	expires := m.Get(unix.RTA_EXPIRES) != nil || m.lifetime() > 0
	return m.Kind == Route && m.Is6() && m.header[5] == unix.RTPROT_RA && m.header[1] == 0 && expires
}

// lifetime is what a route that the kernel told of has left, in 1/100 s (USER_HZ);
// zero for no limit. It is negative for one that has run out and is not deleted yet.
func (m Message) lifetime() int32 {
	// struct rta_cacheinfo: rta_expires is the third field.
	if info := m.Get(unix.RTA_CACHEINFO); m.Kind == Route && m.Is6() && len(info) >= 12 {
		return int32(binary.NativeEndian.Uint32(info[8:]))
	}
	return 0
}

// rtaNextHop is RTA_NH_ID, which the library lacks.
const rtaNextHop = 30

// dropNextHop leaves the number of the next hop, where there is one, without
// what the kernel tells of it for programs that do not know of such.
func (m *Message) dropNextHop() {
	if m.Get(rtaNextHop) != nil {
		m.drop(unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH)
	}
}

// nextHops walks the struct rtnexthop of an RTA_MULTIPATH in place.
func nextHops(raw []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(raw) >= unix.SizeofRtNexthop {
			size := int(binary.NativeEndian.Uint16(raw))
			if size < unix.SizeofRtNexthop || size > len(raw) || !yield(raw[:size]) {
				return
			}
			raw = raw[min(len(raw), (size+3)&^3):]
		}
	}
}

// Leaves says whether the route or next hop goes out of the device.
func (m Message) Leaves(index int) bool {
	if m.Kind == NextHop {
		return m.uint32(unix.NHA_OIF) == uint32(index)
	}
	if m.uint32(unix.RTA_OIF) == uint32(index) {
		return true
	}
	for hop := range nextHops(m.Get(unix.RTA_MULTIPATH)) {
		if binary.NativeEndian.Uint32(hop[4:]) == uint32(index) {
			return true
		}
	}
	return false
}

// IsLocal tells routes of the host's own addresses.
func (m Message) IsLocal() bool { return m.Kind == Route && m.header[7] == unix.RTN_LOCAL }

// ViaGateway tells routes that need another route to be there first.
func (m Message) ViaGateway() bool {
	return m.Get(unix.RTA_GATEWAY) != nil || m.Get(unix.RTA_VIA) != nil || m.Get(unix.RTA_MULTIPATH) != nil ||
		m.Get(rtaNextHop) != nil
}

// rank is the order in which routes and next hops can be made: those to the
// wire itself, next hops that are on it, routes through these.
func (m Message) rank() int {
	switch {
	case m.Kind == NextHop:
		return 1
	case m.ViaGateway():
		return 2
	default:
		return 0
	}
}

// madeByKernel tells the routes that come and go with an address.
func (m Message) madeByKernel() bool {
	return m.header[5] == unix.RTPROT_KERNEL &&
		slices.Contains([]byte{unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST}, m.header[7])
}

func (m Message) cached() bool {
	return binary.NativeEndian.Uint32(m.header[8:])&unix.RTM_F_CLONED != 0
}

func (m Message) neighbourState() uint16 { return binary.NativeEndian.Uint16(m.header[8:]) }

// carryable tells neighbours worth carrying: those that a user made, and those
// whose MAC is known, so that nothing has to be resolved again in the middle of
// a move. Entries without ARP are the kernel's own (multicast).
func (m Message) carryable() bool {
	const known = unix.NUD_PERMANENT | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	return m.Get(unix.NDA_LLADDR) != nil && m.neighbourState()&known != 0
}

// IsLinkLocal tells fe80::/10.
func (m Message) IsLinkLocal() bool {
	return m.Is6() && m.header[3] == unix.RT_SCOPE_LINK
}

// IsDynamic tells an address with a lifetime: DHCP's, or a router's (RFC 4862).
func (m Message) IsDynamic() bool {
	return m.AddressFlags()&unix.IFA_F_PERMANENT == 0
}

// ifaProto is IFA_PROTO of Linux 5.18 and newer, which the library lacks: who made an address.
const ifaProto = 11

// The kernel's own makers: IFAPROT_KERNEL_RA, of what a router said, and
// IFAPROT_KERNEL_LL, for a link that went up.
const (
	MadeByRouter = 2
	MadeByLink   = 3
)

// Maker is zero for an address that a program made, and before Linux 5.18.
func (m Message) Maker() byte {
	if value := m.Get(ifaProto); len(value) == 1 {
		return value[0]
	}
	return 0
}

func (m Message) AddressFlags() uint32 {
	if m.Get(unix.IFA_FLAGS) != nil {
		return m.uint32(unix.IFA_FLAGS)
	}
	return uint32(m.header[2])
}

func (m *Message) SetAddressFlags(flags uint32) {
	m.header[2] = byte(flags)
	m.setUint32(unix.IFA_FLAGS, flags)
}
