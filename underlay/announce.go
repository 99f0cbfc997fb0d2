package underlay

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
)

// announce tells the neighbours who holds the endpoint's addresses now, and the
// switches behind which port. The frames are the container's own, sent for it
// out of all ports: a container that says nothing would not be found by those
// who knew the holder before, and engines before 28.0 let it say nothing.
func (p *Plane) announce(bridge netlink.Link, endpoint fabric.Endpoint) error {
	wire, err := openWire(p.kernel.NS(), bridge, 0)
	if err != nil {
		return fmt.Errorf("announce endpoint %.12s: %w", endpoint.ID, err)
	}
	defer wire.Close()
	for _, prefix := range endpoint.Addrs {
		if _, err := wire.Write(announcement(endpoint.MAC, prefix.Addr())); err != nil {
			return fmt.Errorf("announce %s of endpoint %.12s: %w", prefix.Addr(), endpoint.ID, err)
		}
	}
	return nil
}

// announcement is the ARP announcement of RFC 5227 §2.3, or the unsolicited
// Neighbour Advertisement of RFC 4861 §7.2.6.
func announcement(mac fabric.MAC, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp{op: arpRequest, senderMAC: mac, sender: addr, target: addr}.broadcast()
	}
	const override, targetLinkLayerAddress = 0x20, 2
	return nd{
		kind: neighbourAdvertisement, flags: override, mac: mac, source: addr, target: addr, option: targetLinkLayerAddress,
	}.multicast(netip.IPv6LinkLocalAllNodes())
}
