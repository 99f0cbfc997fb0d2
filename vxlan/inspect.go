package vxlan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Tunnel opens the namespace of a network, and names its VXLAN device there. Any goroutine
// may call it.
func (p *Plane) Tunnel(network string) (ns netns.NsHandle, device string, err error) {
	ns, err = nl.OpenNamespace(p.path(network))
	return ns, tunnelName, err
}

// Inspect says what is not as the segment wants it: the same comparison that Apply
// repairs by, without the repair.
func (p *Plane) Inspect(_ context.Context, want fabric.Segment) ([]string, error) {
	s, err := p.find(want.Network.ID)
	if errors.Is(err, nl.ErrNotFound) {
		return []string{"the network's namespace " + p.path(want.Network.ID) + " is not there"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vxlan: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written == nil {
		return []string{"the network was not applied yet"}, nil
	}
	found, err := s.inspect(want)
	if err != nil {
		return nil, fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	return found, nil
}

func (s *segment) inspect(want fabric.Segment) ([]string, error) {
	links, err := s.links()
	if err != nil {
		return nil, err
	}
	flags, err := s.Ports()
	if err != nil {
		return nil, err
	}
	there, err := s.read()
	if err != nil {
		return nil, err
	}
	unfiltered, err := s.filters.Inspect(s.Handle, slices.Collect(maps.Values(s.ports)))
	if err != nil {
		return nil, err
	}
	found := append(s.inspectLinks(links, flags), unfiltered...)
	if !s.IsBound(s.path) {
		found = append(found, "the name of the network's namespace, "+s.path+", is gone")
	}
	want.Local = s.withGateway(want.Local)
	return append(found, s.entriesOf(want).compare(there)...), nil
}

// inspectLinks lists the repairs that the devices need.
func (s *segment) inspectLinks(links map[string]netlink.Link, flags map[int]netlink.Protinfo) (found []string) {
	look := func(name string, index int32, flaws func(netlink.Link) []flaw) {
		link, ok := links[name]
		if !ok || link.Attrs().Index != int(index) {
			found = append(found, name+" is gone")
			return
		}
		for _, flaw := range flaws(link) {
			found = append(found, "needed: "+flaw.what)
		}
	}
	look(bridgeName, s.bridge, s.bridgeFlaws)
	look(tunnelName, s.tunnel, func(link netlink.Link) []flaw {
		if reason := nl.Incompatible(s.device, link); reason != "" {
			return []flaw{{what: "create " + tunnelName + " again: it " + reason}}
		}
		return slices.Concat(s.tunnelFlaws(link), s.portFlaws(link, flags))
	})
	for name, index := range s.ends {
		look(name, index, func(link netlink.Link) []flaw { return slices.Concat(s.endFlaws(link), s.portFlaws(link, flags)) })
	}
	return found
}

// compare says in which entries the kernel is not as e, in the order of the tables.
func (e entries) compare(there entries) []string {
	type difference struct {
		slot
		text string
	}
	var found []difference
	for slot, target := range e {
		switch have, ok := there[slot]; {
		case !ok:
			found = append(found, difference{slot, "missing: " + describe(slot, target)})
		case have != target:
			found = append(found, difference{slot, "there is " + describe(slot, have) + " in place of " + describe(slot, target)})
		}
	}
	for slot, target := range there {
		if _, ok := e[slot]; !ok {
			found = append(found, difference{slot, "not ours: " + describe(slot, target)})
		}
	}
	slices.SortFunc(found, func(a, b difference) int {
		return cmp.Or(int(a.table)-int(b.table), strings.Compare(a.text, b.text))
	})
	texts := make([]string, 0, len(found))
	for _, difference := range found {
		texts = append(texts, difference.text)
	}
	return texts
}
