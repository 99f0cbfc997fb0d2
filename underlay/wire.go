package underlay

import (
	"errors"
	"fmt"
	"math/bits"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// openWire opens a packet socket (packet(7)) that sends whole frames out of
// link and hears those of the protocol (ETH_P_*) that come in.
func openWire(ns netns.NsHandle, link netlink.Link, protocol uint16) (*os.File, error) {
	order := bits.ReverseBytes16(protocol) // network byte order
	var fd int
	err := inNamespace(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	wire := os.NewFile(uintptr(fd), "packet socket")
	index := link.Attrs().Index
	// Answers come to groups that the host may not be in.
	err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: order, Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", link.Attrs().Name, err), wire.Close())
	}
	return wire, nil
}
