package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Route is one of the main table, as far as data planes write them.
type Route struct {
	Prefix   netip.Prefix
	Protocol uint8 // who has made it (rtm_protocol)
	Link     int32 // 0 where there is not just one
	Via      netip.Addr
	Src      netip.Addr
	// Plain says that it is of unicast, with the metric that the kernel gives to a
	// route without one, and has nothing that is not in the fields above.
	Plain bool
}

// Routes gives the main table's routes that bear the protocol.
func (h *Handle) Routes(family int, protocol uint8) ([]Route, error) {
	request := rtnl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	request.RetryInterrupted = true
	request.AddData(&rtnl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Protocol: protocol}})
	messages, err := h.execute(request, unix.RTM_NEWROUTE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, message := range messages {
		if len(message) < unix.SizeofRtMsg || message[0] != uint8(family) || message[5] != protocol {
			continue
		}
		route, main, err := ParseRoute(message)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		if main {
			routes = append(routes, route)
		}
	}
	return routes, nil
}

var errShort = errors.New("a route's message is too short")

// ParseRoute reads a message of RTM_NEWROUTE or RTM_DELROUTE (struct rtmsg of the
// kernel's linux/rtnetlink.h, and its attributes). main is false for the other
// tables, and for what the kernel has cached.
func ParseRoute(message []byte) (route Route, main bool, err error) {
	const metric6, nextHopID = 1024, 30 // IP6_RT_PRIO_USER, RTA_NH_ID
	if len(message) < unix.SizeofRtMsg {
		return route, false, errShort
	}
	header := rtnl.DeserializeRtMsg(message)
	attributes, err := rtnl.ParseRouteAttr(message[unix.SizeofRtMsg:])
	if err != nil {
		return route, false, err
	}
	to, usual, metric := netip.IPv4Unspecified(), uint32(0), uint32(0)
	if header.Family == unix.AF_INET6 {
		to, usual = netip.IPv6Unspecified(), metric6
	}
	route.Protocol, main = header.Protocol, header.Table == unix.RT_TABLE_MAIN && header.Flags&unix.RTM_F_CLONED == 0
	plain := header.Type == unix.RTN_UNICAST && header.Tos == 0
	for _, attribute := range attributes {
		value := attribute.Value
		switch attribute.Attr.Type &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case unix.RTA_DST:
			to = Addr(value)
		case unix.RTA_GATEWAY:
			route.Via = Addr(value)
		case unix.RTA_VIA: // struct rtvia: the family, then the address
			if len(value) > 2 {
				route.Via = Addr(value[2:])
			}
		case unix.RTA_PREFSRC:
			route.Src = Addr(value)
		case unix.RTA_OIF:
			route.Link = int32(binary.NativeEndian.Uint32(value))
		case unix.RTA_PRIORITY:
			metric = binary.NativeEndian.Uint32(value)
		case unix.RTA_MULTIPATH, unix.RTA_ENCAP, nextHopID, unix.RTA_METRICS:
			plain = false
		}
	}
	route.Prefix = netip.PrefixFrom(to, int(header.Dst_len))
	route.Plain = plain && metric == usual
	return route, main, nil
}
