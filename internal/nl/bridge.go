package nl

import "github.com/vishvananda/netlink"

// NewBridge gives a bridge as it is created: without multicast snooping, which would
// cut groups off after minutes, as there is no IGMP querier; and without a
// default VLAN, for which the kernel would make a second entry of each MAC. STP
// is off, as the kernel has it by default: a port forwards at once.
func NewBridge(name string) *netlink.Bridge {
	snooping, vlan := false, uint16(0)
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping, VlanDefaultPVID: &vlan}
	bridge.Name = name
	return bridge
}

// IsPlainBridge says whether a bridge is still without what [NewBridge] leaves out.
func IsPlainBridge(bridge *netlink.Bridge) bool {
	snooping := bridge.MulticastSnooping != nil && *bridge.MulticastSnooping
	return !snooping && (bridge.VlanDefaultPVID == nil || *bridge.VlanDefaultPVID == 0)
}
