package vxlan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Prune deletes the namespaces of networks that are not kept. It looks at those
// in Dir that have our name, and touches only those that have our marker.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	kept := make(map[string]bool)
	var networks []fabric.Network
	for _, segment := range keep {
		if segment.Network.Mode == fabric.ModeVXLAN {
			kept[p.path(segment.Network.ID)] = true
			networks = append(networks, segment.Network)
		}
	}
	var errs []error
	for id, s := range maps.Clone(p.segments) {
		if kept[s.path] {
			continue
		}
		if err := p.delete(s); err != nil {
			errs = append(errs, err)
			continue
		}
		p.forget(id)
		errs = append(errs, s.Close())
	}
	errs = append(errs, p.gateways.Prune(ctx, networks))
	paths, err := filepath.Glob(filepath.Join(p.Dir, nsPrefix+"*"))
	errs = append(errs, err)
	for _, path := range paths {
		if !kept[path] && ctx.Err() == nil {
			errs = append(errs, p.pruneLeftover(path))
		}
	}
	errs = append(errs, p.filters.Retain(keep), ctx.Err())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("vxlan: %w", err)
	}
	return nil
}

// pruneLeftover deletes what an earlier run has left at path: a namespace, or
// the empty file that was to become its name.
func (p *Plane) pruneLeftover(path string) error {
	ns, err := nl.OpenNamespace(path)
	if errors.Is(err, nl.ErrNotFound) {
		return deleteEmpty(path)
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	handle, err := nl.Open(ns)
	if err != nil {
		return err
	}
	s := &segment{Handle: handle, path: path}
	owner, err := s.owner()
	if err == nil && owner != "" && p.path(owner) == path {
		err = p.delete(s)
	}
	return errors.Join(err, s.Close())
}

func deleteEmpty(path string) error {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
		return nil // gone meanwhile, or another's
	}
	return os.Remove(path)
}

// delete deletes the devices before the namespace: its own end comes later, in
// the kernel's time, and until then nobody else could have the VNI.
func (p *Plane) delete(s *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted, s.settled = false, false
	links, err := s.links()
	if err != nil {
		return err
	}
	for name, link := range links {
		if deletable(link) {
			if err := s.Remove(name); err != nil {
				return err
			}
		}
		if device, ok := link.(*netlink.Vxlan); ok {
			if err := p.Senders.Forget(uint32(device.VxlanId)); err != nil {
				return err
			}
		}
	}
	return nl.Unbind(s.path)
}

func deletable(link netlink.Link) bool {
	switch link.Type() {
	case "vxlan", "veth":
		return true
	}
	return false
}

// ownerOf gives the network that a namespace with such links was made for.
func ownerOf(links map[string]netlink.Link) string {
	for _, link := range links {
		if owner, ok := strings.CutPrefix(link.Attrs().Alias, marker("")); ok {
			return owner
		}
	}
	return ""
}
