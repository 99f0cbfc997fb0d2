package nl

import (
	"fmt"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Ports gives the flags of all bridge ports in the namespace, by link index.
func (h *Handle) Ports() (map[int]netlink.Protinfo, error) {
	request := rtnl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.RetryInterrupted = true
	request.AddData(rtnl.NewIfInfomsg(unix.AF_BRIDGE))
	messages, err := h.execute(request, unix.RTM_NEWLINK)
	if err != nil {
		return nil, fmt.Errorf("list bridge ports: %w", err)
	}
	ports := make(map[int]netlink.Protinfo, len(messages))
	for _, message := range messages {
		link, err := netlink.LinkDeserialize(&unix.NlMsghdr{Type: unix.RTM_NEWLINK}, message)
		if err != nil {
			return nil, fmt.Errorf("list bridge ports: %w", err)
		}
		if port := link.Attrs().Protinfo; port != nil {
			ports[link.Attrs().Index] = *port
		}
	}
	return ports, nil
}

// StopLearning has a bridge learn no MACs from port, and forget those that it
// has learned there.
func (h *Handle) StopLearning(port netlink.Link) error {
	return h.setPort(port, map[int][]byte{rtnl.IFLA_BRPORT_LEARNING: {0}, rtnl.IFLA_BRPORT_FLUSH: nil})
}

// Seclude has a bridge send to port nothing but frames for the MACs that are known to be
// behind it, and none that comes from another secluded or isolated port; and answer ARP and
// ND for what is behind it.
func (h *Handle) Seclude(port netlink.Link) error {
	on, off := []byte{1}, []byte{0}
	return h.setPort(port, map[int][]byte{
		rtnl.IFLA_BRPORT_LEARNING: off, rtnl.IFLA_BRPORT_UNICAST_FLOOD: off, rtnl.IFLA_BRPORT_MCAST_FLOOD: off,
		rtnl.IFLA_BRPORT_BCAST_FLOOD: off, rtnl.IFLA_BRPORT_NEIGH_SUPPRESS: on, rtnl.IFLA_BRPORT_ISOLATED: on,
	})
}

func (h *Handle) setPort(port netlink.Link, values map[int][]byte) error {
	request := rtnl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := rtnl.NewIfInfomsg(unix.AF_BRIDGE)
	message.Index = int32(port.Attrs().Index)
	request.AddData(message)
	flags := rtnl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for key, value := range values {
		flags.AddRtAttr(key, value)
	}
	request.AddData(flags)
	if _, err := h.execute(request, 0); err != nil {
		return fmt.Errorf("set the flags of the bridge's port %s: %w", port.Attrs().Name, err)
	}
	return nil
}

// LimitLearning has a bridge learn at most count MACs, even when a port learns
// that should not. Kernels before 6.8 ignore it.
func (h *Handle) LimitLearning(bridge netlink.Link, count uint32) error {
	const fdbMaxLearned = 49 // IFLA_BR_FDB_MAX_LEARNED
	if err := h.setOption(bridge, fdbMaxLearned, rtnl.Uint32Attr(count)); err != nil {
		return fmt.Errorf("limit what %s learns: %w", bridge.Attrs().Name, err)
	}
	return nil
}

// setOption sets one of the options that links of a type have.
func (h *Handle) setOption(link netlink.Link, attribute int, value []byte) error {
	request := rtnl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	message := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(link.Attrs().Index)
	request.AddData(message)
	info := rtnl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(rtnl.IFLA_INFO_KIND, rtnl.NonZeroTerminated(link.Type()))
	info.AddRtAttr(rtnl.IFLA_INFO_DATA, nil).AddRtAttr(attribute, value)
	request.AddData(info)
	_, err := h.execute(request, 0)
	return err
}

// execute sends what the netlink library has no method for.
func (h *Handle) execute(request *rtnl.NetlinkRequest, answer uint16) (messages [][]byte, err error) {
	err = Do(h.ns, func() (err error) {
		messages, err = request.Execute(unix.NETLINK_ROUTE, answer)
		return err
	})
	return messages, err
}
