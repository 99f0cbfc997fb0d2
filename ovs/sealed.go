package ovs

import (
	"github.com/causeway-net/causeway/fabric"
)

// Encrypted networks leave the switch by devices of the kernel (package vxlanport).

// ensureDevice has the network's device. The userspace datapath takes no frame that is larger
// than the MTU, so that on its way there nothing may put packets together: neither the
// network's device, nor that of WireGuard, whose packets may be of one connection.
func (p *Plane) ensureDevice(segment fabric.Segment) (fresh bool, repaired int, err error) {
	if p.have.datapath == "netdev" && !p.have.unmerged[segment.VTEP] {
		device, err := p.links.holder(segment.VTEP)
		if err == nil { // else it is being made again
			if err := p.links.mergingOff(device); err != nil {
				return false, 0, err
			}
			p.have.unmerged[segment.VTEP] = true
		}
	}
	return p.devices.Ensure(segment)
}

// guard readies a device before a frame comes in by it.
func (p *Plane) guard(device string) error {
	if p.have.datapath != "netdev" {
		return nil
	}
	if err := p.links.mergingOff(device); err != nil {
		return err
	}
	_, err := p.links.filterHost([]string{device}, never)
	return err
}
