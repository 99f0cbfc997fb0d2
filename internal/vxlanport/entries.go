package vxlanport

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// slot is the key of an FDB entry: the MAC of an endpoint elsewhere, or the VTEP that gets
// a copy of what is flooded.
type slot struct {
	mac   fabric.MAC
	flood netip.Addr
}

// entries are VTEPs; that of a flood's slot is the slot's own.
type entries map[slot]netip.Addr

// entriesOf gives those for peers and a flood list. Of two peers with one MAC the last counts.
func entriesOf(peers []fabric.Peer, flood []netip.Addr) entries {
	all := make(entries, len(peers)+len(flood))
	for _, peer := range peers {
		all[slot{mac: peer.MAC}] = peer.VTEP
	}
	for _, vtep := range flood {
		all[slot{flood: vtep}] = vtep
	}
	return all
}

// lost counts the entries that are otherwise, or missing, in have.
func (e entries) lost(have entries) int {
	count := 0
	for slot, vtep := range e {
		if have[slot] != vtep {
			count++
		}
	}
	return count
}

// Write makes the entries of the segment's device those of the segment. Ensure came before.
func (p *Ports) Write(segment fabric.Segment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.ready(segment.Network)
	if err != nil {
		return err
	}
	want := entriesOf(segment.Remote, segment.Flood)
	var gone []slot
	for s := range d.entries {
		if _, wanted := want[s]; !wanted {
			gone = append(gone, s)
		}
	}
	d.flood = segment.Flood
	return p.write(d, want, gone)
}

// Update writes the entries of what changed. Ensure came before.
func (p *Ports) Update(delta fabric.Delta) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.ready(delta.Network)
	if err != nil {
		return err
	}
	want := entriesOf(delta.Put, nil)
	var gone []slot
	for _, endpoint := range delta.Gone {
		s := slot{mac: endpoint.MAC}
		_, wanted := want[s]
		if _, there := d.entries[s]; there && !wanted {
			gone = append(gone, s)
		}
	}
	if !slices.Equal(d.flood, delta.Flood) {
		maps.Copy(want, entriesOf(nil, delta.Flood))
		for _, vtep := range d.flood {
			if _, kept := want[slot{flood: vtep}]; !kept {
				gone = append(gone, slot{flood: vtep})
			}
		}
		d.flood = delta.Flood
	}
	return p.write(d, want, gone)
}

func (p *Ports) ready(network fabric.Network) (*device, error) {
	d := p.devices[network.ID]
	if d == nil || !d.trusted {
		return nil, fmt.Errorf("device of encrypted network %s is to be read back", network.Label())
	}
	return d, nil
}

// write sets what is wanted and is not there, and deletes what is gone. An entry that
// changes is replaced in one step.
func (p *Ports) write(d *device, want entries, gone []slot) error {
	var failed nl.Failures
	for s, vtep := range want {
		if d.entries[s] == vtep {
			continue
		}
		set := p.Host.NeighSet
		if s.flood.IsValid() { // many VTEPs of one MAC
			set = p.Host.NeighAppend
		}
		if err := set(d.message(s, vtep)); err != nil {
			failed.Add(fmt.Errorf("set %s: %w", describe(s, vtep), err))
			continue
		}
		d.entries[s] = vtep
	}
	for _, s := range gone {
		// ENODEV: the entry went with its link.
		err := p.Host.NeighDel(d.message(s, d.entries[s]))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			failed.Add(fmt.Errorf("delete %s: %w", describe(s, d.entries[s]), err))
			continue
		}
		delete(d.entries, s)
	}
	d.trusted = !failed.Doubt
	return failed.Err()
}

// read lists the entries that the kernel has of a device.
func (p *Ports) read(d *device) (entries, error) {
	list, err := p.Host.NeighListExecute(netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(d.index)})
	if err != nil {
		return nil, fmt.Errorf("read FDB of %s: %w", d.want.Name, err)
	}
	all := make(entries)
	for i := range list {
		if s, vtep, valid := parse(&list[i]); valid && list[i].LinkIndex == d.index {
			all[s] = vtep
		}
	}
	return all, nil
}

func (d *device) message(s slot, vtep netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: d.index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		HardwareAddr: s.mac.HardwareAddr(), IP: nl.IP(vtep),
	}
}

// parse is the reverse of message.
func parse(message *netlink.Neigh) (s slot, vtep netip.Addr, valid bool) {
	vtep = nl.Addr(message.IP)
	if len(message.HardwareAddr) != len(s.mac) || message.Flags&netlink.NTF_SELF == 0 || !vtep.IsValid() {
		return s, vtep, false
	}
	if s.mac = fabric.MAC(message.HardwareAddr); s.mac == (fabric.MAC{}) {
		s.flood = vtep
	}
	return s, vtep, true
}

func describe(s slot, vtep netip.Addr) string {
	if s.flood.IsValid() {
		return fmt.Sprintf("flooding to %s", vtep)
	}
	return fmt.Sprintf("FDB %s to %s", s.mac, vtep)
}

// Inspect says what the kernel has otherwise than the segment wants it.
func (p *Ports) Inspect(segment fabric.Segment) (found []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.devices[segment.Network.ID]
	if d == nil || d.index == 0 {
		return []string{"the device of the encrypted network was not made yet"}, nil
	}
	if reason := p.flaw(d); reason != "" {
		return []string{fmt.Sprintf("%s %s", d.want.Name, reason)}, nil
	}
	have, err := p.read(d)
	if err != nil {
		return nil, err
	}
	want := entriesOf(segment.Remote, segment.Flood)
	for s, vtep := range want {
		if have[s] != vtep {
			found = append(found, "missing: "+describe(s, vtep))
		}
	}
	for s, vtep := range have {
		if _, wanted := want[s]; !wanted {
			found = append(found, "not ours: "+describe(s, vtep))
		}
	}
	slices.Sort(found)
	return found, nil
}
