package nl

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
)

// NewVXLAN gives a VXLAN device (RFC 7348) that learns nothing and sends from vtep.
// Outer UDP checksums stay on: IPv6 has no other, and with them GRO has its packets
// checked by the NIC.
func NewVXLAN(name string, vni uint32, vtep netip.Addr, port int) *netlink.Vxlan {
	const ttl = 64
	device := &netlink.Vxlan{
		LinkAttrs: netlink.NewLinkAttrs(), VxlanId: int(vni), SrcAddr: IP(vtep), Port: port, TTL: ttl,
	}
	device.Name = name
	return device
}

// SetVXLANSource has a VXLAN device send from another address of the same family (kernel
// 5.0). What else it is made of, the library would send along, and the kernel refuse.
func (h *Handle) SetVXLANSource(device *netlink.Vxlan, source net.IP) error {
	attribute, addr := rtnl.IFLA_VXLAN_LOCAL6, source.To16()
	if four := source.To4(); four != nil {
		attribute, addr = rtnl.IFLA_VXLAN_LOCAL, four
	}
	if err := h.setOption(device, attribute, addr); err != nil {
		return fmt.Errorf("have %s send from %s: %w", device.Name, source, err)
	}
	return nil
}

// Incompatible says why link cannot serve as want; empty when it can.
func Incompatible(want *netlink.Vxlan, link netlink.Link) string {
	have, ok := link.(*netlink.Vxlan)
	switch {
	case !ok:
		return "is a " + link.Type()
	case have.VxlanId != want.VxlanId:
		return fmt.Sprintf("has VNI %d, not %d", have.VxlanId, want.VxlanId)
	case !have.SrcAddr.Equal(want.SrcAddr):
		return fmt.Sprintf("sends from %s, not %s", have.SrcAddr, want.SrcAddr)
	case have.Port != want.Port:
		return fmt.Sprintf("uses UDP port %d, not %d", have.Port, want.Port)
	case have.TTL != want.TTL:
		return fmt.Sprintf("sends with TTL %d, not %d", have.TTL, want.TTL)
	case have.VtepDevIndex != 0 || have.Group != nil:
		return "is bound to a device or a group"
	case have.Learning:
		return "learns from the tunnel"
	case have.Proxy || have.RSC || have.L2miss || have.L3miss || have.GBP || have.FlowBased:
		return "has options that are not ours"
	}
	return ""
}
