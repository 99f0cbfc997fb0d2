package vxlan

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// shape is what the devices of a segment depend on.
type shape struct {
	vtep string
	vni  uint32
	mtu  int
}

func shapeOf(want fabric.Segment) shape {
	return shape{want.VTEP.Unmap().String(), want.Network.VNI, want.MTU}
}

// readBack mends the name, the devices and the notes of what entries there are.
// It counts what had been right and was not any more.
func (p *Plane) readBack(s *segment, want fabric.Segment) (mended int, err error) {
	known := s.written != nil && s.applied == shapeOf(want)
	if renamed, err := s.rename(); err != nil {
		return 0, err
	} else if renamed {
		p.Log.WithField("network", nameOf(want.Network)).Warn("the network's namespace had lost its name; it has it again")
		mended++
	}
	links, err := s.links()
	if err != nil {
		return mended, err
	}
	if err := p.mendBridge(s, links[bridgeName], want); err != nil {
		return mended, err
	}
	if err := p.mendTunnel(s, links, want); err != nil {
		return mended, err
	}
	ported, err := s.mendPorts(links, want)
	if err != nil {
		return mended, err
	}
	found, err := s.read()
	if err != nil {
		return mended, err
	}
	if known {
		mended += ported + s.written.differences(found)
	}
	s.written = found
	return mended, nil
}

// newBridge gives br0 as it is created: without multicast snooping, which would
// cut groups off after minutes, as there is no IGMP querier.
func newBridge() *netlink.Bridge {
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	bridge.Name = bridgeName
	return bridge
}

// mendBridge makes br0. STP is off, as the kernel has it by default: a port
// forwards at once.
func (p *Plane) mendBridge(s *segment, have netlink.Link, want fabric.Segment) error {
	if have != nil && have.Type() != "bridge" {
		if err := s.Remove(bridgeName); err != nil {
			return err
		}
		have = nil
	}
	if have == nil {
		if err := s.LinkAdd(newBridge()); err != nil {
			return fmt.Errorf("create %s: %w", bridgeName, err)
		}
		var err error
		if have, err = s.Link(bridgeName); err != nil {
			return err
		}
	}
	if bridge, ok := have.(*netlink.Bridge); ok && bridge.MulticastSnooping != nil && *bridge.MulticastSnooping {
		if err := s.LinkModify(newBridge()); err != nil {
			return fmt.Errorf("turn multicast snooping of %s off: %w", bridgeName, err)
		}
	}
	s.bridge = have.Attrs().Index
	return s.equip(have, want)
}

// mendTunnel makes vxlan0. A device that cannot be what it should is made anew.
func (p *Plane) mendTunnel(s *segment, links map[string]netlink.Link, want fabric.Segment) error {
	wanted := p.tunnelOf(want)
	for name, link := range links {
		if link.Type() != "vxlan" && name != tunnelName {
			continue
		}
		reason := incompatible(wanted, link)
		if reason == "" {
			return p.join(s, link, want)
		}
		p.Log.WithField("network", nameOf(want.Network)).Infof("%s is made anew: it %s", name, reason)
		if err := s.Remove(name); err != nil {
			return err
		}
	}
	wanted.Namespace = netlink.NsFd(s.NS())
	err := p.host.LinkAdd(wanted)
	if errors.Is(err, unix.EEXIST) {
		return p.conflict(want.Network.VNI)
	}
	if err != nil {
		return fmt.Errorf("create %s with VNI %d: %w", tunnelName, wanted.VxlanId, err)
	}
	link, err := s.Link(wanted.Name)
	if err != nil {
		return err
	}
	return p.join(s, link, want)
}

// tunnelOf gives the VXLAN device of a segment. It is born in the namespace with
// its socket in the host's, in one request, under a name that the host has not:
// kernels before 6.15 look for it there too. Outer UDP checksums stay on: IPv6
// has no other, and with them GRO has its packets checked by the NIC.
func (p *Plane) tunnelOf(want fabric.Segment) *netlink.Vxlan {
	const ttl = 64
	tunnel := &netlink.Vxlan{
		LinkAttrs: netlink.NewLinkAttrs(),
		VxlanId:   int(want.Network.VNI),
		SrcAddr:   nl.IP(want.VTEP),
		Port:      p.Port,
		TTL:       ttl,
	}
	tunnel.Name = fabric.DeviceName("cwx", want.Network.ID)
	tunnel.HardwareAddr = fabric.DeriveMAC(want.Network.ID, want.VTEP).HardwareAddr()
	tunnel.MTU = want.MTU
	return tunnel
}

// incompatible says why have cannot serve as want; empty when it can.
func incompatible(want *netlink.Vxlan, link netlink.Link) string {
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
		return "is tied to a device or a group"
	case have.Learning:
		return "learns from the tunnel"
	case have.Proxy || have.RSC || have.L2miss || have.L3miss || have.GBP || have.FlowBased:
		return "has options that are not ours"
	}
	return ""
}

// join makes link the bridge's port to the other hosts.
func (p *Plane) join(s *segment, link netlink.Link, want fabric.Segment) error {
	if link.Attrs().Name != tunnelName {
		if err := s.LinkSetDown(link); err != nil {
			return err
		}
		if err := s.LinkSetName(link, tunnelName); err != nil {
			return fmt.Errorf("rename %s to %s: %w", link.Attrs().Name, tunnelName, err)
		}
		link.Attrs().Name = tunnelName
	}
	s.tunnel = link.Attrs().Index
	err := s.equip(link, want)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("UDP port %d of the host is another's: %w", p.Port, err)
	}
	if err != nil {
		return err
	}
	if link.Attrs().MasterIndex != s.bridge {
		if err := s.LinkSetMasterByIndex(link, s.bridge); err != nil {
			return fmt.Errorf("put %s into %s: %w", tunnelName, bridgeName, err)
		}
	}
	if err := s.LinkSetBrNeighSuppress(link, true); err != nil {
		return fmt.Errorf("have %s answer ARP and ND: %w", bridgeName, err)
	}
	return nil
}

// equip gives br0 or vxlan0 marker, MAC and MTU, and sets it up. The MTU is
// never lowered: containers that were told the larger one still use it.
func (s *segment) equip(link netlink.Link, want fabric.Segment) error {
	have, mac := link.Attrs(), fabric.DeriveMAC(want.Network.ID, want.VTEP).HardwareAddr()
	if have.Alias != marker(want.Network.ID) {
		if err := s.LinkSetAlias(link, marker(want.Network.ID)); err != nil {
			return fmt.Errorf("mark %s: %w", have.Name, err)
		}
	}
	if have.HardwareAddr.String() != mac.String() {
		if err := s.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("set MAC of %s: %w", have.Name, err)
		}
	}
	if have.MTU < want.MTU {
		if err := s.LinkSetMTU(link, want.MTU); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", have.Name, want.MTU, err)
		}
	}
	if have.Flags&net.FlagUp != 0 {
		return nil
	}
	if err := s.Silence(link); err != nil {
		return err
	}
	if err := s.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", have.Name, err)
	}
	return nil
}

// mendPorts puts the ends of the local pairs back into the bridge, and notes
// which pairs there are.
func (s *segment) mendPorts(links map[string]netlink.Link, want fabric.Segment) (mended int, err error) {
	clear(s.ends)
	for name, link := range links {
		if link.Type() != "veth" || !nl.IsHostEnd(name) {
			continue
		}
		s.ends[name] = true
		have := link.Attrs()
		if have.MasterIndex != s.bridge {
			if err := s.LinkSetMasterByIndex(link, s.bridge); err != nil {
				return mended, fmt.Errorf("put %s into %s: %w", name, bridgeName, err)
			}
			mended++
		}
		if have.Flags&net.FlagUp == 0 {
			if err := s.LinkSetUp(link); err != nil {
				return mended, fmt.Errorf("set %s up: %w", name, err)
			}
			mended++
		}
	}
	return mended, nil
}
