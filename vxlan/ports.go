package vxlan

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// filter keeps the container behind end to what it may send.
func (s *segment) filter(network fabric.Network, endpoint fabric.Endpoint, end netlink.Link) error {
	port := portfilter.Port{End: end, Rule: portfilter.RuleOf(network, endpoint)}
	if err := s.filters.Put(s.Handle, port); err != nil {
		return err
	}
	s.ports[end.Attrs().Name] = port
	return nil
}

// repairFilters has the filters of all ends in place, and counts those that were not.
func (s *segment) repairFilters(want fabric.Segment, links map[string]netlink.Link) (repaired int, err error) {
	clear(s.ports)
	for _, endpoint := range want.Local {
		name := nl.HostEnd(endpoint.ID)
		if link, there := links[name]; there && link.Attrs().Index == int(s.ends[name]) {
			s.ports[name] = portfilter.Port{End: link, Rule: portfilter.RuleOf(want.Network, endpoint)}
		}
	}
	return s.filters.Mend(s.Handle, slices.Collect(maps.Values(s.ports)))
}

// filtered says whether those ends are filtered that are among indexes. It asks the
// kernel: a notification of tc has less than the filter.
func (s *segment) filtered(indexes map[int]bool) bool {
	var changed []portfilter.Port
	for _, port := range s.ports {
		if indexes[port.End.Attrs().Index] {
			changed = append(changed, port)
		}
	}
	wrong, err := s.filters.Wrong(s.Handle, changed)
	return err == nil && !wrong
}

// Drops counts the frames that were dropped at the ports of this host's containers, by
// endpoint ID.
func (p *Plane) Drops(context.Context) (map[string]fabric.Drops, error) {
	drops, err := p.filters.Drops()
	if err != nil {
		return nil, fmt.Errorf("vxlan: %w", err)
	}
	return drops, nil
}
