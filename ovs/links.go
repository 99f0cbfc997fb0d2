package ovs

import (
	"fmt"
	"net/netip"
	"runtime"
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
	pairs nl.Pairs
}

func openLinks(host netns.NsHandle) (links, error) {
	handle, err := nl.Open(host)
	return links{handle, nl.Pairs{Host: handle, Home: handle, Mark: aliasPrefix}}, err
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

// has says whether there is a link of that name.
func (l links) has(name string) bool {
	_, err := l.Link(name)
	return err == nil
}

// pair creates the veth pair of endpoint.
func (l links) pair(endpoint fabric.Endpoint, mtu int) error {
	pair := nl.Pair{Endpoint: endpoint.ID, MAC: endpoint.MAC, MTU: mtu, Alias: aliasPrefix + endpoint.ID}
	_, err := pair.Ensure(l.Handle, l.Handle)
	return err
}

// checksumsOff has the kernel fill in the checksums of what is sent on link
// (ethtool -K … tx off), which turns segmentation offload off too.
func (l links) checksumsOff(link string) error {
	if err := l.offload(link, unix.ETHTOOL_STXCSUM); err != nil {
		return fmt.Errorf("turn checksum offload of %s off: %w", link, err)
	}
	return nil
}

// mergingOff has the kernel not put packets together that come in on link (ethtool -K … gro off).
func (l links) mergingOff(link string) error {
	if err := l.offload(link, unix.ETHTOOL_SGRO); err != nil {
		return fmt.Errorf("turn GRO of %s off: %w", link, err)
	}
	return nil
}

// offload turns one off, by a command of ethtool.
func (l links) offload(link string, command uint32) error {
	socket := -1
	err := nl.Do(l.NS(), func() (err error) {
		socket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("open a socket for ethtool: %w", err)
	}
	defer unix.Close(socket)
	value := struct{ command, data uint32 }{command, 0} // struct ethtool_value
	request := struct {                                 // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return errno
	}
	return nil
}
