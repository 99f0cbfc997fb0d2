package nl

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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

// CreateVXLAN creates a device with its alias and without an IPv6 address; it is down.
func (h *Handle) CreateVXLAN(device *netlink.Vxlan) (netlink.Link, error) {
	if err := h.LinkAdd(device); err != nil {
		return nil, fmt.Errorf("create %s with VNI %d on UDP port %d: %w", device.Name, device.VxlanId, device.Port, err)
	}
	link, err := h.Link(device.Name)
	if err != nil {
		return nil, err
	}
	if err := h.LinkSetAlias(link, device.Alias); err != nil {
		return nil, fmt.Errorf("mark %s: %w", device.Name, err)
	}
	return link, h.Silence(link)
}

// MendVXLAN makes link, of the same name, as want is, up, and counts what was not. It changes
// nothing where link can't serve as want, and says why; one that bears another's alias is an
// error. The source, the MTU and the MAC change while it carries.
func (h *Handle) MendVXLAN(want *netlink.Vxlan, link netlink.Link) (repaired int, incompatible string, err error) {
	if alias := link.Attrs().Alias; alias == "" && Incompatible(want, link) == "" {
		return 0, "was left half made", nil
	} else if alias != want.Alias {
		return 0, "", fmt.Errorf("a link %s is there already that is not causeway's", want.Name)
	}
	if old, ok := link.(*netlink.Vxlan); ok && !old.SrcAddr.Equal(want.SrcAddr) && h.SetVXLANSource(old, want.SrcAddr) == nil {
		old.SrcAddr, repaired = want.SrcAddr, 1
	}
	if incompatible = Incompatible(want, link); incompatible != "" {
		return repaired, incompatible, nil
	}
	for _, flaw := range VXLANFlaws(want, link) {
		if err := flaw.Repair(h, link); err != nil {
			return repaired, "", fmt.Errorf("%s: %w", want.Name, err)
		}
		repaired++
	}
	return repaired, "", nil
}

// Flaw is what is wrong with a link, and what sets it right.
type Flaw struct {
	What   string
	Repair func(*Handle, netlink.Link) error
}

// VXLANFlaws are those of a compatible link.
func VXLANFlaws(want *netlink.Vxlan, link netlink.Link) (flaws []Flaw) {
	have := link.Attrs()
	if !bytes.Equal(have.HardwareAddr, want.HardwareAddr) {
		flaws = append(flaws, Flaw{fmt.Sprintf("has MAC %s, not %s", have.HardwareAddr, want.HardwareAddr), func(h *Handle, link netlink.Link) error {
			return h.LinkSetHardwareAddr(link, want.HardwareAddr)
		}})
	}
	if have.MTU != want.MTU {
		flaws = append(flaws, Flaw{fmt.Sprintf("has MTU %d, not %d", have.MTU, want.MTU), func(h *Handle, link netlink.Link) error {
			return h.LinkSetMTU(link, want.MTU)
		}})
	}
	if have.RawFlags&unix.IFF_UP == 0 {
		flaws = append(flaws, Flaw{"is down", func(h *Handle, link netlink.Link) error { return h.LinkSetUp(link) }})
	}
	return flaws
}
