package ovs

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// aliasPrefix and an endpoint's ID are the alias of the host's end of its pair:
// it says that the link is ours even if the switch has forgotten it.
const aliasPrefix = "causeway ovs endpoint "

// links works on the links of the host's network namespace.
type links struct {
	*nl.Handle
}

func openLinks(host netns.NsHandle) (links, error) {
	handle, err := nl.Open(host)
	return links{handle}, err
}

// kernelDatapath says whether this kernel forwards for Open vSwitch itself.
func kernelDatapath() bool {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	return err == nil
}

// holder names the link that has addr.
func (l links) holder(addr netip.Addr) (string, error) {
	addresses, err := l.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("list addresses: %w", err)
	}
	for _, address := range addresses {
		if nl.Addr(address.IP) == addr.Unmap() {
			link, err := l.LinkByIndex(address.LinkIndex)
			if err != nil {
				return "", fmt.Errorf("link of %s: %w", addr, err)
			}
			return link.Attrs().Name, nil
		}
	}
	return "", fmt.Errorf("no link of this host has the VTEP address %s", addr)
}

// ours gives the host's ends of our pairs, by endpoint ID.
func (l links) ours() (map[string]netlink.Link, error) {
	all, err := l.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	found := make(map[string]netlink.Link)
	for _, link := range all {
		if endpoint, ok := strings.CutPrefix(link.Attrs().Alias, aliasPrefix); ok {
			found[endpoint] = link
		}
	}
	return found, nil
}

// taken says whether the other end of host is in another namespace: a container has it.
func taken(host netlink.Link) bool { return host.Attrs().NetNsID >= 0 }

// pair makes the veth pair of endpoint.
func (l links) pair(endpoint fabric.Endpoint, mtu int) error {
	pair := nl.Pair{Endpoint: endpoint.ID, MAC: endpoint.MAC, MTU: mtu, Alias: aliasPrefix + endpoint.ID}
	_, err := pair.Ensure(l.Handle, l.Handle)
	return err
}

// checksumsOff has the kernel fill in the checksums of what is sent on link
// (ethtool -K … tx off), which takes segmentation offload away with it.
func (l links) checksumsOff(link string) error {
	socket, err := l.socket()
	if err != nil {
		return fmt.Errorf("open a socket for ethtool: %w", err)
	}
	defer unix.Close(socket)
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 0} // struct ethtool_value
	request := struct {                                              // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return fmt.Errorf("turn checksum offload of %s off: %w", link, errno)
	}
	return nil
}

// socket opens a socket in the host's namespace, whose links its ioctls are
// about. A thread that cannot come back ends with its goroutine.
func (l links) socket() (int, error) {
	type result struct {
		socket int
		err    error
	}
	opened := make(chan result, 1)
	go func() {
		socket, err := socketIn(l.NS())
		opened <- result{socket, err}
	}()
	r := <-opened
	return r.socket, r.err
}

func socketIn(ns netns.NsHandle) (int, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return -1, err
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		return -1, err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if back := netns.Set(home); back != nil {
		return socket, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return socket, err
}
