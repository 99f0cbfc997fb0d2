// Package nl has the netlink helpers that the data planes share.
//
// A change's path: a data plane opens one [Handle] for each network
// namespace that it works in, finds links by name, and sends messages through
// the methods of the netlink library, which a Handle has all of. What must run
// on a thread in the namespace goes through [Do]. [Events] tell what changes
// there, [Pairs] are the veth pairs of the containers.
package nl

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNotFound says that there is no such link or no such namespace.
var ErrNotFound = errors.New("not found")

// Handle is a netlink socket in one network namespace, and that namespace. An
// open Handle keeps its namespace alive, even one that has lost its name.
type Handle struct {
	*netlink.Handle
	ns netns.NsHandle
}

// Open opens a Handle in ns; [netns.None] is the caller's namespace. ns
// stays the caller's to close.
func Open(ns netns.NsHandle) (*Handle, error) {
	own, err := duplicate(ns)
	if err != nil {
		return nil, fmt.Errorf("open a network namespace: %w", err)
	}
	handle, err := netlink.NewHandleWithOptions(netlink.HandleOptions{
		NetNS: &own, RetryInterrupted: true, DisableVFInfoCollection: true,
	}, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), own.Close())
	}
	return &Handle{Handle: handle, ns: own}, nil
}

func duplicate(ns netns.NsHandle) (netns.NsHandle, error) {
	if !ns.IsOpen() {
		return netns.Get()
	}
	fd, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
	return netns.NsHandle(fd), err
}

// Close closes the socket and the reference to the namespace.
func (h *Handle) Close() error {
	h.Handle.Close()
	return h.ns.Close()
}

// NS is the Handle's namespace; it is closed with the Handle.
func (h *Handle) NS() netns.NsHandle { return h.ns }

// Link finds a link by name; without one the error is [ErrNotFound].
func (h *Handle) Link(name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("link %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	return link, nil
}

// Remove deletes the link of that name, if there is one.
func (h *Handle) Remove(name string) error {
	link, err := h.Link(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// Silence keeps link from giving itself an IPv6 address and announcing it, as a
// port of a bridge needs none. Where a link has no IPv6 there is nothing to do.
func (h *Handle) Silence(link netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	err := h.LinkSetIP6AddrGenMode(link, none)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("keep %s without an IPv6 address: %w", link.Attrs().Name, err)
	}
	return nil
}

// Isolate keeps the stack of the Handle's namespace from answering on the link of
// that name: it has no IPv6 there, and ARP gets no replies (arp_ignore=8 in the
// kernel's ip-sysctl documentation). A link that moves to another namespace
// takes that one's defaults.
func (h *Handle) Isolate(link string) error {
	return Do(h.ns, func() error {
		var errs []error
		for setting, value := range map[string]string{"ipv6/conf/" + link + "/disable_ipv6": "1", "ipv4/conf/" + link + "/arp_ignore": "8"} {
			err := os.WriteFile("/proc/sys/net/"+setting, []byte(value), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // the kernel has no IPv6
				errs = append(errs, fmt.Errorf("isolate %s from the host: %w", link, err))
			}
		}
		return errors.Join(errs...)
	})
}

// IP gives the form that the netlink library takes; nil for the zero Addr.
func IP(addr netip.Addr) net.IP { return addr.Unmap().AsSlice() }

// Addr gives the comparable form of ip; the zero Addr for what is not an address.
func Addr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
