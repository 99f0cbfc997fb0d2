package vxlan

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

func (s *segment) bridgeFlaws(link netlink.Link) []flaw {
	flaws := s.commonFlaws(link)
	bridge, ok := link.(*netlink.Bridge)
	if ok && !nl.IsPlainBridge(bridge) {
		flaws = append(flaws, flaw{"turn multicast snooping and VLANs of " + bridgeName + " off", func() error { return s.LinkModify(nl.NewBridge(bridgeName)) }})
	}
	return slices.Concat(flaws, s.downFlaw(link))
}

// repairBridge makes br0 as it should be; one that is created counts as one.
func (s *segment) repairBridge(have netlink.Link) (repaired int, err error) {
	if have != nil && have.Type() != "bridge" {
		if err := s.Remove(bridgeName); err != nil {
			return 0, err
		}
		have = nil
	}
	created := have == nil
	if created {
		if err := s.LinkAdd(nl.NewBridge(bridgeName)); err != nil {
			return 0, fmt.Errorf("create %s: %w", bridgeName, err)
		}
		if have, err = s.Link(bridgeName); err != nil {
			return 0, err
		}
	}
	s.bridge = int32(have.Attrs().Index)
	if created || s.written == nil {
		if err := s.LimitLearning(have, 1); err != nil {
			return 0, err
		}
	}
	repaired, err = repairAll(s.bridgeFlaws(have))
	if created {
		repaired = 1
	}
	return repaired, err
}

// tunnelOf gives the VXLAN device of a segment. It is created in the namespace with its
// socket in the host's, in one request, under a name that the host does not have:
// kernels before 6.15 check the name there too.
func (p *Plane) tunnelOf(want fabric.Segment) *netlink.Vxlan {
	tunnel := nl.NewVXLAN(fabric.DeviceName("cwx", want.Network.ID), want.Network.VNI, want.VTEP, p.Port)
	tunnel.HardwareAddr = fabric.DeriveMAC(want.Network.ID, want.VTEP).HardwareAddr()
	tunnel.MTU = want.MTU
	return tunnel
}

// repairTunnel makes vxlan0 as it should be. A device that cannot be is
// recreated, and counts as one. Where it sends from is changed while it carries, as
// when this host's key is rotated.
func (p *Plane) repairTunnel(s *segment, links map[string]netlink.Link, flags map[int]netlink.Protinfo, want fabric.Segment) (repaired int, err error) {
	var have netlink.Link
	moved := 0
	for name, link := range links {
		if link.Type() != "vxlan" && name != tunnelName {
			continue
		}
		if old, ok := link.(*netlink.Vxlan); ok && !old.SrcAddr.Equal(s.device.SrcAddr) && s.SetVXLANSource(old, s.device.SrcAddr) == nil {
			old.SrcAddr, moved = s.device.SrcAddr, 1
		}
		reason := nl.Incompatible(s.device, link)
		if reason == "" {
			have = link
			continue
		}
		p.Log.WithField("network", nameOf(want.Network)).Infof("%s is recreated: it %s", name, reason)
		if err := s.Remove(name); err != nil {
			return 0, err
		}
	}
	created := have == nil
	if created {
		if have, err = p.createTunnel(s, want); err != nil {
			return 0, err
		}
	}
	s.tunnel = int32(have.Attrs().Index)
	repaired, err = repairAll(s.tunnelFlaws(have), s.portFlaws(have, flags))
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("UDP port %d of the host is another's: %w", p.Port, err)
	}
	if created {
		repaired = 1
	}
	return repaired + moved, err
}

func (p *Plane) createTunnel(s *segment, want fabric.Segment) (netlink.Link, error) {
	s.device.Namespace = netlink.NsFd(s.NS())
	err := p.host.LinkAdd(s.device)
	if errors.Is(err, unix.EEXIST) {
		return nil, p.conflict(want.Network.VNI)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s with VNI %d: %w", tunnelName, s.device.VxlanId, err)
	}
	return s.Link(s.device.Name)
}

// tunnelFlaws are those of a device that is compatible.
func (s *segment) tunnelFlaws(link netlink.Link) (flaws []flaw) {
	have := link.Attrs()
	if have.Name != tunnelName {
		flaws = append(flaws, flaw{"rename " + have.Name + " to " + tunnelName, func() error {
			return errors.Join(s.LinkSetDown(link), s.LinkSetName(link, tunnelName))
		}})
		have.Name, have.Flags = tunnelName, have.Flags&^net.FlagUp // so that it is set up after
	}
	return slices.Concat(flaws, s.commonFlaws(link), s.downFlaw(link), s.masterFlaw(link))
}
