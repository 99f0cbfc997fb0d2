// Package wire sends whole frames out of a link, and hears those that pass it.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// Open opens a packet socket (packet(7)) on link, in namespace ns. It hears the
// frames of the protocol (ETH_P_*), none of the zero one, that pass the filter,
// if there is one; groups that the host is not in, too. ETH_P_ALL are those that
// leave as well.
func Open(ns netns.NsHandle, link netlink.Link, protocol uint16, filter []bpf.Instruction) (*os.File, error) {
	var fd int
	err := nl.Do(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "packet socket")
	index := link.Attrs().Index
	err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	if err == nil && filter != nil {
		err = attach(fd, filter)
	}
	if err == nil { // only now does the socket hear anything
		order := bits.ReverseBytes16(protocol) // network byte order
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: order, Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a packet socket on %s: %w", link.Attrs().Name, err), socket.Close())
	}
	return socket, nil
}

func attach(fd int, filter []bpf.Instruction) error {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	filters := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filters[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]})
}

// Checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func Checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
