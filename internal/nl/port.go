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
	request := rtnl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := rtnl.NewIfInfomsg(unix.AF_BRIDGE)
	message.Index = int32(port.Attrs().Index)
	request.AddData(message)
	flags := rtnl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	flags.AddRtAttr(rtnl.IFLA_BRPORT_LEARNING, []byte{0})
	flags.AddRtAttr(rtnl.IFLA_BRPORT_FLUSH, nil)
	request.AddData(flags)
	if _, err := h.execute(request, 0); err != nil {
		return fmt.Errorf("turn learning of %s off: %w", port.Attrs().Name, err)
	}
	return nil
}

// LimitLearning has a bridge learn at most count MACs, even when a port learns
// that should not. Kernels before 6.8 ignore it.
func (h *Handle) LimitLearning(bridge netlink.Link, count uint32) error {
	const fdbMaxLearned = 49 // IFLA_BR_FDB_MAX_LEARNED
	request := rtnl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	message := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(bridge.Attrs().Index)
	request.AddData(message)
	info := rtnl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(rtnl.IFLA_INFO_KIND, rtnl.NonZeroTerminated("bridge"))
	info.AddRtAttr(rtnl.IFLA_INFO_DATA, nil).AddRtAttr(fdbMaxLearned, rtnl.Uint32Attr(count))
	request.AddData(info)
	if _, err := h.execute(request, 0); err != nil {
		return fmt.Errorf("limit what %s learns: %w", bridge.Attrs().Name, err)
	}
	return nil
}

// execute sends what the netlink library has no method for.
func (h *Handle) execute(request *rtnl.NetlinkRequest, answer uint16) (messages [][]byte, err error) {
	err = Do(h.ns, func() (err error) {
		messages, err = request.Execute(unix.NETLINK_ROUTE, answer)
		return err
	})
	return messages, err
}
