package vxlan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/vishvananda/netlink"

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

// readBack repairs the namespace's name and the devices, and notes what entries
// there are. It returns how many objects were found wrong that had been right.
func (p *Plane) readBack(ctx context.Context, s *segment, want fabric.Segment) (repaired int, err error) {
	known := s.written != nil && s.applied == shapeOf(want)
	s.device, s.suppress = p.tunnelOf(want), len(want.Network.Allow) == 0
	var partial error
	for _, step := range []func() (int, error){
		func() (int, error) { return p.repairName(s, want) },
		func() (int, error) { return p.repairDevices(ctx, s, want) },
		s.readEntries,
	} {
		count, err := step()
		if known {
			repaired += count
		}
		if partial = errors.Join(partial, err); err != nil && !errors.Is(err, fabric.ErrPartial) {
			return repaired, err
		}
	}
	return repaired, partial
}

func (p *Plane) repairName(s *segment, want fabric.Segment) (repaired int, err error) {
	renamed, err := s.rename()
	if err != nil || !renamed {
		return 0, err
	}
	p.Log.WithField("network", nameOf(want.Network)).Warn("the name of the network's namespace was removed; it is restored")
	return 1, nil
}

// repairDevices repairs br0, vxlan0, the gateway, the host's ends and their filters, in
// this order.
func (p *Plane) repairDevices(ctx context.Context, s *segment, want fabric.Segment) (repaired int, err error) {
	links, err := s.links()
	if err != nil {
		return 0, err
	}
	flags, err := s.Ports()
	if err != nil {
		return 0, err
	}
	steps := []func() (int, error){
		func() (int, error) { return s.repairBridge(links[bridgeName]) },
		func() (int, error) { return p.repairTunnel(s, links, flags, want) },
	}
	s.noteEnds(links)
	for _, step := range steps {
		count, err := step()
		repaired += count
		if err != nil {
			return repaired, err
		}
	}
	count, partial := p.repairGateway(ctx, s, want)
	repaired += count
	for _, name := range slices.Sorted(maps.Keys(s.ends)) {
		if link, ok := links[name]; ok && link.Attrs().Index == int(s.ends[name]) { // else it was created just now
			count, err := repairAll(s.endFlaws(link), s.portFlaws(link, flags))
			repaired += count
			if err != nil {
				return repaired, err
			}
		}
	}
	count, err = s.repairFilters(want, links)
	return repaired + count, errors.Join(partial, err)
}

// flaw is something about a link that is not as it should be. Apply repairs
// flaws; Watch looks for them in the kernel's notifications.
type flaw struct {
	what   string // the repair, for its error
	repair func() error
}

func repairAll(lists ...[]flaw) (repaired int, err error) {
	for _, flaw := range slices.Concat(lists...) {
		if err := flaw.repair(); err != nil {
			return repaired, fmt.Errorf("%s: %w", flaw.what, err)
		}
		repaired++
	}
	return repaired, nil
}

// commonFlaws are those of br0's and vxlan0's alias, MAC and MTU.
func (s *segment) commonFlaws(link netlink.Link) (flaws []flaw) {
	have, want := link.Attrs(), s.device.Attrs()
	if alias := marker(s.network); have.Alias != alias {
		flaws = append(flaws, flaw{"mark " + have.Name, func() error { return s.LinkSetAlias(link, alias) }})
	}
	if have.HardwareAddr.String() != want.HardwareAddr.String() {
		flaws = append(flaws, flaw{"set MAC of " + have.Name, func() error { return s.LinkSetHardwareAddr(link, want.HardwareAddr) }})
	}
	return append(flaws, s.mtuFlaw(link)...)
}

// mtuFlaw is that link takes less than the network's MTU. It is never lowered:
// containers that were told a larger one still use it.
func (s *segment) mtuFlaw(link netlink.Link) []flaw {
	have, want := link.Attrs(), s.device.MTU
	if have.MTU >= want {
		return nil
	}
	return []flaw{{fmt.Sprintf("set MTU of %s to %d", have.Name, want), func() error { return s.LinkSetMTU(link, want) }}}
}

func (s *segment) downFlaw(link netlink.Link) []flaw {
	name := link.Attrs().Name
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	return []flaw{
		{"set " + name + " up", func() error {
			if err := s.Silence(link); err != nil {
				return err
			}
			return s.LinkSetUp(link)
		}},
	}
}

// masterFlaw is that link is not a port of br0.
func (s *segment) masterFlaw(link netlink.Link) []flaw {
	if link.Attrs().MasterIndex == int(s.bridge) {
		return nil
	}
	what := fmt.Sprintf("enslave %s to %s", link.Attrs().Name, bridgeName)
	return []flaw{{what, func() error { return s.LinkSetMasterByIndex(link, int(s.bridge)) }}}
}

func (s *segment) endFlaws(link netlink.Link) []flaw {
	return slices.Concat(s.masterFlaw(link), s.mtuFlaw(link), s.downFlaw(link))
}

// portFlaws are those of a link that is to be a port of br0; flags are those of
// all ports.
func (s *segment) portFlaws(link netlink.Link, flags map[int]netlink.Protinfo) []flaw {
	have, ok := flags[link.Attrs().Index]
	if !ok || link.Attrs().MasterIndex != int(s.bridge) {
		have = netlink.Protinfo{Learning: true, Flood: true} // as the kernel makes a port
	}
	return s.flagFlaws(link, have)
}

// flagFlaws are those of a port's flags. A port that learns would let a frame
// move another container's MAC to it, and fill the table.
func (s *segment) flagFlaws(link netlink.Link, have netlink.Protinfo) (flaws []flaw) {
	if s.isGateway(link) {
		return s.secludedFlaw(link, have)
	}
	if have.Learning {
		flaws = append(flaws, flaw{"keep " + bridgeName + " from learning", func() error { return s.StopLearning(link) }})
	}
	if link.Attrs().Index == int(s.tunnel) && have.NeighSuppress != s.suppress {
		what := fmt.Sprintf("have %s answer ARP and ND: %t", bridgeName, s.suppress)
		flaws = append(flaws, flaw{what, func() error { return s.LinkSetBrNeighSuppress(link, s.suppress) }})
	}
	if link.Attrs().Index == int(s.tunnel) && !have.Isolated {
		flaws = append(flaws, flaw{"keep the tunnel from the gateway", func() error { return s.LinkSetIsolated(link, true) }})
	}
	return flaws
}

// noteEnds notes which pairs there are. The entries of those that are gone went
// with them.
func (s *segment) noteEnds(links map[string]netlink.Link) {
	for name, port := range s.ends {
		if link, ok := links[name]; !ok || link.Attrs().Index != int(port) {
			s.forgetEnd(name)
		}
	}
	for name, link := range links {
		if link.Type() == "veth" && nl.IsHostEnd(name) {
			s.ends[name] = int32(link.Attrs().Index)
		}
	}
}

// forgetEnd drops what is known of a host's end that is gone.
func (s *segment) forgetEnd(name string) {
	for mac := range s.behind[s.ends[name]] {
		s.drop(slot{table: ports, mac: mac})
	}
	delete(s.ends, name)
	delete(s.ports, name)
}

// readEntries notes what entries the kernel has, and counts those that are not
// as they were known.
func (s *segment) readEntries() (repaired int, err error) {
	found, err := s.read()
	if err != nil {
		return 0, err
	}
	repaired = s.written.differences(found)
	s.written, s.behind = make(entries, len(found)), make(map[int32]map[fabric.MAC]bool)
	for slot, target := range found {
		s.note(slot, target)
	}
	return repaired, nil
}
