// Package rtmsg keeps a device's addresses, routes and neighbours as the kernel's
// own rtnetlink messages, whole, and says how they read on another device.
//
// A message's path: [Socket.Read] lists what a device has (state.go); [State.On]
// gives it as it reads on another (carry.go); JSON keeps it across a crash; and
// [Socket.Add] and [Socket.Delete] write it (socket.go).
package rtmsg

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Kind is what an rtnetlink message is about.
type Kind int

const (
	Address Kind = iota
	Route
	NextHop // ip-nexthop(8): routes name it by its number and follow it
	Neighbour
)

// types gives the message types that add, remove and list a kind.
func (k Kind) types() (add, del, get uint16) {
	switch k {
	case Address:
		return unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_GETADDR
	case Route:
		return unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_GETROUTE
	case NextHop:
		return unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP, unix.RTM_GETNEXTHOP
	default:
		return unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH, unix.RTM_GETNEIGH
	}
}

// headerLen is the size of struct ifaddrmsg, rtmsg, nhmsg or ndmsg; each starts
// with the family.
func (k Kind) headerLen() int {
	switch k {
	case Address:
		return unix.SizeofIfAddrmsg
	case NextHop:
		return unix.SizeofNhmsg
	default:
		return unix.SizeofRtMsg
	}
}

func (k Kind) String() string { return [...]string{"address", "route", "next hop", "neighbour"}[k] }

// Message is an address, a route or a neighbour as the kernel itself tells it.
// It is kept and written as it came, attribute by attribute, so that what
// this code does not know of (metrics, encapsulation, preference…) is carried
// over as well; `ip route save` does the same.
type Message struct {
	Kind   Kind
	header []byte
	attrs  []attr
}

type attr struct {
	typ   uint16 // without the NLA_F_* bits
	value []byte
}

const nlaTypeMask = 1<<14 - 1 // NLA_TYPE_MASK

func parseMessage(k Kind, raw []byte) (Message, error) {
	if len(raw) < k.headerLen() {
		return Message{}, fmt.Errorf("%s of %d bytes is too short", k, len(raw))
	}
	m := Message{Kind: k, header: slices.Clone(raw[:k.headerLen()])}
	attrs := slices.Clone(raw[k.headerLen():])
	for len(attrs)%unix.NLA_ALIGNTO != 0 { // the library reads past the end of what a damaged journal cuts short
		attrs = append(attrs, 0)
	}
	parsed, err := rtnl.ParseRouteAttr(attrs)
	if err != nil {
		return Message{}, fmt.Errorf("%s: %w", k, err)
	}
	for _, a := range parsed {
		m.attrs = append(m.attrs, attr{a.Attr.Type & nlaTypeMask, slices.Clone(a.Value)})
	}
	return m, nil
}

func (m Message) bytes() []byte {
	raw := slices.Clone(m.header)
	for _, a := range m.attrs {
		raw = append(raw, rtnl.NewRtAttr(int(a.typ), a.value).Serialize()...)
	}
	return raw
}

func (m Message) Clone() Message {
	m.header = slices.Clone(m.header)
	m.attrs = slices.Clone(m.attrs)
	return m
}

func (m Message) family() byte { return m.header[0] }

func (m Message) Is6() bool { return m.family() == unix.AF_INET6 }

// Get returns an attribute's value, nil if there is none.
func (m Message) Get(typ uint16) []byte {
	for _, a := range m.attrs {
		if a.typ == typ {
			return a.value
		}
	}
	return nil
}

func (m Message) uint32(typ uint16) uint32 {
	if value := m.Get(typ); len(value) == 4 {
		return binary.NativeEndian.Uint32(value)
	}
	return 0
}

func (m *Message) set(typ uint16, value []byte) {
	m.drop(typ)
	m.attrs = append(m.attrs, attr{typ, value})
}

func (m *Message) setUint32(typ uint16, value uint32) {
	m.set(typ, binary.NativeEndian.AppendUint32(nil, value))
}

func (m *Message) drop(types ...uint16) {
	m.attrs = slices.DeleteFunc(m.attrs, func(a attr) bool { return slices.Contains(types, a.typ) })
}

// Key is equal for messages that name the same thing: lifetimes, flags and
// whatever else the kernel lets one change in place are left out.
func (m Message) Key() string {
	n := m.Clone()
	switch m.Kind {
	case Address:
		n.header = append(slices.Clone(m.header[:2]), m.header[4:]...) // without flags and scope
		n.attrs = slices.DeleteFunc(n.attrs, func(a attr) bool {
			return a.typ != unix.IFA_ADDRESS && a.typ != unix.IFA_LOCAL
		})
	case Route:
		n.header = m.header[:8] // without flags
		n.drop(unix.RTA_CACHEINFO, unix.RTA_EXPIRES, unix.RTA_PREF)
		n.dropNextHop()
	case NextHop:
		n.header = m.header[:1]
		n.attrs = slices.DeleteFunc(n.attrs, func(a attr) bool { return a.typ != unix.NHA_ID && a.typ != unix.NHA_OIF })
	case Neighbour:
		n.header = m.header[:8] // without state and flags
		n.attrs = slices.DeleteFunc(n.attrs, func(a attr) bool { return a.typ != unix.NDA_DST })
	}
	slices.SortFunc(n.attrs, func(a, b attr) int { return cmp.Compare(a.typ, b.typ) })
	return string(n.bytes())
}

// String is the message for people, about as ip(8) puts it.
func (m Message) String() string {
	switch m.Kind {
	case Address:
		addr := m.Get(unix.IFA_LOCAL)
		if addr == nil {
			addr = m.Get(unix.IFA_ADDRESS)
		}
		return prefixText(addr, m.header[1])
	case Route:
		words := []string{"default"}
		if dst := m.Get(unix.RTA_DST); dst != nil {
			words[0] = prefixText(dst, m.header[1])
		}
		if via, ok := netip.AddrFromSlice(m.Get(unix.RTA_GATEWAY)); ok {
			words = append(words, "via", via.String())
		}
		if metric := m.uint32(unix.RTA_PRIORITY); metric != 0 {
			words = append(words, "metric", fmt.Sprint(metric))
		}
		if table := m.uint32(unix.RTA_TABLE); table != unix.RT_TABLE_MAIN {
			words = append(words, "table", fmt.Sprint(table))
		}
		return strings.Join(words, " ")
	case NextHop:
		return fmt.Sprint(m.uint32(unix.NHA_ID))
	default:
		addr, _ := netip.AddrFromSlice(m.Get(unix.NDA_DST))
		return addr.String()
	}
}

func prefixText(addr []byte, bits byte) string {
	a, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(a, int(bits)).String()
}

func cString(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
