package names

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// seat is an endpoint of this host whose names are not served yet.
type seat struct {
	id string
	place
}

// locate serves the endpoints whose sandbox is known or found, and says whether
// that is all of them. Nothing is opened while the Server is locked: reconcile
// must not wait for it.
func (s *Server) locate(ctx context.Context, running *sync.WaitGroup) (all bool) {
	all = true
	var lost []*seat
	seats := s.unserved()
	for i := range seats {
		if seats[i].path == "" {
			lost = append(lost, &seats[i])
		}
	}
	if len(lost) > 0 {
		s.scan(lost)
	}
	for _, seat := range seats {
		if seat.path == "" || s.serve(ctx, running, seat) != nil {
			all = false
		}
	}
	return all
}

func (s *Server) unserved() []seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seats []seat
	for id, p := range s.local {
		if !p.served {
			seats = append(seats, seat{id, *p})
		}
	}
	return seats
}

// scan looks for endpoints in all sandboxes of the engine, by MAC and address:
// after a restart of causeway nobody tells where they are.
func (s *Server) scan(lost []*seat) {
	files, err := os.ReadDir(s.EngineDir)
	if err != nil {
		return // the engine has none
	}
	for _, file := range files {
		path := filepath.Join(s.EngineDir, file.Name())
		for _, seat := range found(path, lost) {
			seat.path = path
		}
	}
}

// found gives those of lost that are in a namespace; none where it cannot be
// read, as while Docker removes it.
func found(path string, lost []*seat) []*seat {
	ns, err := nl.OpenNamespace(path)
	if err != nil {
		return nil
	}
	defer ns.Close()
	handle, err := nl.Open(ns)
	if err != nil {
		return nil
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return nil
	}
	var here []*seat
	for _, link := range links {
		for _, seat := range lost {
			if macOf(link) == seat.mac && hasAddress(handle, link, seat.addr) {
				here = append(here, seat)
			}
		}
	}
	return here
}

func hasAddress(handle *nl.Handle, link netlink.Link, want netip.Addr) bool {
	addresses, err := handle.AddrList(link, netlink.FAMILY_ALL)
	return err == nil && slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return nl.Addr(a.IP) == want })
}

func macOf(link netlink.Link) fabric.MAC {
	if hw := link.Attrs().HardwareAddr; len(hw) == len(fabric.MAC{}) {
		return fabric.MAC(hw)
	}
	return fabric.MAC{}
}

// gateway is the bridge that Docker connects a container to for its way out; it
// has no names.
const gateway = "docker_gwbridge"

// mixed says whether a container is on a network of another driver as well.
func (s *Server) mixed(box *sandbox) bool {
	links, err := box.handle.LinkList()
	if err != nil {
		return false
	}
	host, err := nl.Open(netns.None())
	if err != nil {
		return false
	}
	defer host.Close()
	ours := s.macsIn(box)
	return slices.ContainsFunc(links, func(link netlink.Link) bool {
		return macOf(link) != fabric.MAC{} && !slices.Contains(ours, macOf(link)) && masterOf(host, link) != gateway
	})
}

func (s *Server) macsIn(box *sandbox) []fabric.MAC {
	s.mu.Lock()
	defer s.mu.Unlock()
	var macs []fabric.MAC
	for _, p := range s.local {
		if p.path == box.path {
			macs = append(macs, p.mac)
		}
	}
	return macs
}

// masterOf names the bridge on the host that the other end of a pair is a port of.
func masterOf(host *nl.Handle, link netlink.Link) string {
	end, err := host.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil || end.Attrs().MasterIndex == 0 {
		return ""
	}
	bridge, err := host.LinkByIndex(end.Attrs().MasterIndex)
	if err != nil {
		return ""
	}
	return bridge.Attrs().Name
}

// searched gives the networks whose names a container is told, all of this
// host's without one.
func (s *Server) searched(container string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var networks []string
	for id, p := range s.local {
		if container == "" || strings.EqualFold(p.name, container) || len(container) >= 6 && strings.HasPrefix(id, container) {
			networks = append(networks, p.network)
		}
	}
	slices.Sort(networks)
	return slices.Compact(networks)
}
