package vxlan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// compare orders slots as they are written.
func (s slot) compare(other slot) int {
	return cmp.Or(cmp.Compare(s.table, other.table), bytes.Compare(s.mac[:], other.mac[:]), bytes.Compare(s.addr[:], other.addr[:]))
}

// write makes the kernel's entries those of want, and notes what it has done.
func (s *segment) write(want entries) nl.Failures {
	var gone []slot
	for slot := range s.written {
		if _, ok := want[slot]; !ok {
			gone = append(gone, slot)
		}
	}
	return s.writeOnly(want, gone)
}

// writeDelta writes the entries of what changed.
func (s *segment) writeDelta(d fabric.Delta) nl.Failures {
	changed := fabric.Segment{Remote: d.Put, Local: d.Local}
	var gone []slot
	if !slices.Equal(s.flood, d.Flood) {
		changed.Flood = d.Flood
		for _, vtep := range s.flood {
			if _, kept := slices.BinarySearchFunc(d.Flood, vtep, netip.Addr.Compare); !kept {
				gone = append(gone, slot{table: floods, addr: pack(vtep)})
			}
		}
	}
	want := s.entriesOf(changed)
	for slot := range s.entriesOf(fabric.Segment{Remote: peers(d.Gone)}) {
		_, wanted := want[slot]
		if _, there := s.written[slot]; there && !wanted {
			gone = append(gone, slot)
		}
	}
	return s.writeOnly(want, gone)
}

// peers are for the slots of endpoints alone.
func peers(endpoints []fabric.Endpoint) []fabric.Peer {
	list := make([]fabric.Peer, len(endpoints))
	for i, endpoint := range endpoints {
		list[i].Endpoint = endpoint
	}
	return list
}

// writeOnly writes those entries of want that the kernel has not, and deletes those
// that are gone. An entry that changes is replaced in one step: no packet finds it
// missing. An entry that the kernel refuses (a VTEP of the other address family) does
// not keep the others from being written.
func (s *segment) writeOnly(want entries, gone []slot) nl.Failures {
	var set []slot
	for slot, target := range want {
		if have, ok := s.written[slot]; !ok || have != target {
			set = append(set, slot)
		}
	}
	slices.SortFunc(set, slot.compare)
	slices.SortFunc(gone, slot.compare)
	var failed nl.Failures
	for _, slot := range set {
		failed.Add(s.put(slot, want[slot]))
	}
	for _, slot := range gone {
		failed.Add(s.deleteEntry(slot))
	}
	return failed
}

func (s *segment) put(slot slot, target target) error {
	set := s.NeighSet
	if slot.table == floods { // many targets of one MAC
		set = s.NeighAppend
	}
	if err := set(s.message(slot, target)); err != nil {
		return fmt.Errorf("set %s: %w", describe(slot, target), err)
	}
	s.note(slot, target)
	return nil
}

// note keeps that the kernel has an entry, drop that it has not.
func (s *segment) note(slot slot, target target) {
	s.drop(slot)
	s.written[slot] = target
	if slot.table == ports && target.port != s.tunnel {
		if s.behind[target.port] == nil {
			s.behind[target.port] = make(map[fabric.MAC]bool)
		}
		s.behind[target.port][slot.mac] = true
	}
}

func (s *segment) drop(slot slot) {
	target, there := s.written[slot]
	if !there {
		return
	}
	delete(s.written, slot)
	if macs := s.behind[target.port]; slot.table == ports && macs != nil {
		if delete(macs, slot.mac); len(macs) == 0 {
			delete(s.behind, target.port)
		}
	}
}

func (s *segment) deleteEntry(slot slot) error {
	target := s.written[slot]
	err := s.NeighDel(s.message(slot, target))
	// ENODEV: the entry went with its link.
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", describe(slot, target), err)
	}
	s.drop(slot)
	return nil
}

// read lists the entries that the kernel has, by two dumps. The namespace is
// ours alone and its bridge does not learn: there is little else in them.
func (s *segment) read() (entries, error) {
	all := make(entries)
	for _, family := range []uint8{unix.AF_UNSPEC, unix.AF_BRIDGE} {
		list, err := s.NeighListExecute(netlink.Ndmsg{Family: family})
		if err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
		for _, message := range list {
			slot, target, valid := parse(&message)
			if valid && message.Vlan == 0 && s.concerns(slot, int32(message.LinkIndex)) {
				all[slot] = target
			}
		}
	}
	return all, nil
}

// concerns says whether an entry of slot on the link of that index is one that
// Apply writes, or stands in its place.
func (s *segment) concerns(slot slot, index int32) bool {
	switch slot.table {
	case ports:
		return true
	case neighbours:
		return index == s.bridge
	default:
		return index == s.tunnel
	}
}
