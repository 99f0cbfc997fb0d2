// Package sandbox finds the network namespaces of an engine's containers.
package sandbox

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Find opens the namespace in dir, where the engine names them (/run/docker/netns), that
// has the interface of an endpoint, and gives the interface; [nl.ErrNotFound] where none
// has it. The caller closes the namespace.
func Find(dir string, e fabric.Endpoint) (found netns.NsHandle, link netlink.Link, err error) {
	found = netns.None()
	known := false
	err = Each(dir, func(ns netns.NsHandle) (stop bool, err error) {
		link, known, err = find(ns, e)
		if !known || err != nil {
			return false, err
		}
		fd, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
		found = netns.NsHandle(fd)
		return true, err
	})
	if err == nil && !known {
		err = fmt.Errorf("no namespace in %s has its interface: %w", dir, nl.ErrNotFound)
	}
	return found, link, err
}

// Each gives use the namespaces in dir, one after the other, until it says stop or fails.
func Each(dir string, use func(ns netns.NsHandle) (stop bool, err error)) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("find the containers' namespaces: %w", err)
	}
	for _, file := range files {
		ns, err := nl.OpenNamespace(filepath.Join(dir, file.Name()))
		if err != nil {
			continue // it may just be removed
		}
		stop, err := use(ns)
		_ = ns.Close() // it was only read
		if err != nil {
			return fmt.Errorf("look into the namespace %s: %w", file.Name(), err)
		}
		if stop {
			break
		}
	}
	return nil
}

func find(ns netns.NsHandle, e fabric.Endpoint) (link netlink.Link, known bool, err error) {
	handle, err := nl.Open(ns)
	if err != nil {
		return nil, false, err
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return nil, false, err
	}
	for _, link := range links {
		if link.Attrs().HardwareAddr.String() == e.MAC.String() && has(handle, link, e) {
			return link, true, nil
		}
	}
	return nil, false, nil
}

// has says whether link has one of the endpoint's addresses: another network's container may
// have its MAC.
func has(handle *nl.Handle, link netlink.Link, e fabric.Endpoint) bool {
	addrs, err := handle.AddrList(link, netlink.FAMILY_ALL)
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		return slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr().Unmap() == nl.Addr(a.IP) })
	})
}
