package vxlan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

const (
	bridgeName = "br0"
	tunnelName = "vxlan0"
	nsPrefix   = "causeway-"
)

// segment is a network's namespace, and what is known of the kernel in it. The
// plane's goroutine holds mu while it works there, Watch while it compares the
// kernel's notifications with what is known.
type segment struct {
	*nl.Handle
	network string
	path    string
	mu      sync.Mutex
	// trusted says that the kernel has what is noted here; else Apply reads back.
	trusted bool
	// settled says that the last Apply did not fail: one that did is retried anyway.
	settled bool
	applied shape
	// gateway is the network's place on this host; nil where it has none here.
	gateway        *fabric.Endpoint
	device         *netlink.Vxlan // as vxlan0 should be
	bridge, tunnel int32          // link indexes
	// suppress says that the bridge answers ARP and ND, and lets no announcement out.
	// Where addresses float, other hosts must hear of their moves.
	suppress bool
	// ends are the indexes of the host's ends in the namespace, by name.
	ends map[string]int32
	// ports are those of them that have a container of ours behind them.
	ports   map[string]portfilter.Port
	filters *portfilter.Filters
	// written are the entries that the kernel had last; nil when not known.
	written entries
	// behind are the MACs of those of them that are behind a host's end, by its index.
	behind map[int32]map[fabric.MAC]bool
	flood  []netip.Addr // as applied last
	// events, while Watch runs, are the kernel's notifications.
	events *nl.Events
}

// marker is the alias by which devices are known as ours.
func marker(network string) string { return "causeway:" + network }

func (p *Plane) path(network string) string {
	return filepath.Join(p.Dir, nsPrefix+fabric.ShortHash(network))
}

// open gives the network's segment; its namespace is created if there is none.
func (p *Plane) open(network string) (*segment, error) {
	s, err := p.find(network)
	if !errors.Is(err, nl.ErrNotFound) {
		return s, err
	}
	ns, err := nl.NewNamespace()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	s, err = p.enter(ns, network)
	if err != nil {
		return nil, err
	}
	if err := s.create(network); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	p.add(s)
	return s, nil
}

// create creates the marked bridge in a new namespace, and then gives the namespace its
// name: one that has the name has the marker.
func (s *segment) create(network string) error {
	bridge := nl.NewBridge(bridgeName)
	if err := s.LinkAdd(bridge); err != nil {
		return fmt.Errorf("create %s: %w", bridgeName, err)
	}
	if err := s.LinkSetAlias(bridge, marker(network)); err != nil {
		return fmt.Errorf("mark %s: %w", bridgeName, err)
	}
	return nl.Bind(s.NS(), s.path)
}

// find gives the segment of a network whose namespace exists; else the error is
// [nl.ErrNotFound].
func (p *Plane) find(network string) (*segment, error) {
	if s, ok := p.segments[network]; ok {
		return s, nil
	}
	ns, err := nl.OpenNamespace(p.path(network))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	s, err := p.enter(ns, network)
	if err != nil {
		return nil, err
	}
	owner, err := s.owner()
	if err == nil && owner != network {
		err = fmt.Errorf("network namespace %s is not causeway's: no device in it has the alias %q", s.path, marker(network))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	p.add(s)
	return s, nil
}

func (p *Plane) enter(ns netns.NsHandle, network string) (*segment, error) {
	handle, err := nl.Open(ns)
	if err != nil {
		return nil, err
	}
	return &segment{Handle: handle, network: network, path: p.path(network), ends: make(map[string]int32),
		ports: make(map[string]portfilter.Port), filters: &p.filters}, nil
}

// Close closes the sockets; the kernel keeps what it has.
func (s *segment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted, s.settled = false, false
	errs := []error{s.Handle.Close()}
	if s.events != nil {
		errs = append(errs, s.events.Close())
	}
	return errors.Join(errs...)
}

// links gives the namespace's links by name.
func (s *segment) links() (map[string]netlink.Link, error) {
	list, err := s.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links of %s: %w", s.path, err)
	}
	links := make(map[string]netlink.Link, len(list))
	for _, link := range list {
		links[link.Attrs().Name] = link
	}
	return links, nil
}

// owner gives the network that the namespace was made for; empty when it is not ours.
func (s *segment) owner() (network string, err error) {
	links, err := s.links()
	if err != nil {
		return "", err
	}
	return ownerOf(links), nil
}

// rename gives the namespace its name again, if that was taken away: as long as
// the segment is open, it and the containers' links in it are there.
func (s *segment) rename() (renamed bool, err error) {
	if s.IsBound(s.path) {
		return false, nil
	}
	if err := nl.Unbind(s.path); err != nil {
		return false, err
	}
	return true, nl.Bind(s.NS(), s.path)
}

// pruneEnds deletes the pairs of endpoints that are no longer here.
func (s *segment) pruneEnds(local []fabric.Endpoint) error {
	gone := maps.Clone(s.ends)
	for _, endpoint := range local {
		delete(gone, nl.HostEnd(endpoint.ID))
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		if err := s.Remove(name); err != nil {
			errs = append(errs, err)
			continue
		}
		s.forgetEnd(name)
	}
	return errors.Join(errs...)
}

// Device says where a network's tunnel is on this host: the path of its namespace, and
// the name of the device in it.
func (p *Plane) Device(network fabric.Network) (namespace, name string) {
	return p.path(network.ID), tunnelName
}
