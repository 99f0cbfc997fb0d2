package hostfilter

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

// sendFragments sends a datagram for port 4789 in two fragments, of which the first has
// UDP's header alone (RFC 791 §3.2, RFC 8200 §4.5).
func sendFragments(t *testing.T, from *lantest.Machine, source, destination netip.Addr, payload []byte) {
	t.Helper()
	datagram := udp(source, destination, payload)
	for _, part := range []struct {
		data         []byte
		offset, more int
	}{{datagram[:8], 0, 1}, {datagram[8:], 8, 0}} {
		packet := fragment4(source, destination, part.data, part.offset, part.more)
		if source.Is6() {
			packet = fragment6(source, destination, part.data, part.offset, part.more)
		}
		must(t, nl.Do(from.NS, func() error { return sendRaw(destination, packet) }))
	}
}

func sendRaw(destination netip.Addr, packet []byte) error {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: destination.As16()})
	if destination.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: destination.As4()}
	}
	socket, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	return unix.Sendto(socket, packet, 0, to)
}

func fragment4(source, destination netip.Addr, data []byte, offset, more int) []byte {
	const header, ttl = 20, 64
	packet := []byte{0x45, 0}
	packet = binary.BigEndian.AppendUint16(packet, uint16(header+len(data)))
	packet = binary.BigEndian.AppendUint16(packet, 77)
	packet = binary.BigEndian.AppendUint16(packet, uint16(more<<13|offset/8))
	packet = append(packet, ttl, unix.IPPROTO_UDP, 0, 0) // the kernel adds the checksum
	packet = append(append(packet, source.AsSlice()...), destination.AsSlice()...)
	return append(packet, data...)
}

func fragment6(source, destination netip.Addr, data []byte, offset, more int) []byte {
	const extension, hops = 8, 64
	packet := []byte{0x60, 0, 0, 0}
	packet = binary.BigEndian.AppendUint16(packet, uint16(extension+len(data)))
	packet = append(packet, unix.IPPROTO_FRAGMENT, hops)
	packet = append(append(packet, source.AsSlice()...), destination.AsSlice()...)
	packet = append(packet, unix.IPPROTO_UDP, 0)
	packet = binary.BigEndian.AppendUint16(packet, uint16(offset|more))
	packet = binary.BigEndian.AppendUint32(packet, 77)
	return append(packet, data...)
}

// udp is a datagram with its checksum (RFC 768).
func udp(source, destination netip.Addr, payload []byte) []byte {
	const port, header = 4789, 8
	length := uint16(header + len(payload))
	datagram := binary.BigEndian.AppendUint16(nil, port)
	datagram = binary.BigEndian.AppendUint16(datagram, port)
	datagram = binary.BigEndian.AppendUint16(datagram, length)
	datagram = append(append(datagram, 0, 0), payload...)
	summed := append(append(source.AsSlice(), destination.AsSlice()...), 0, unix.IPPROTO_UDP, byte(length>>8), byte(length))
	summed = append(summed, datagram...)
	if len(summed)%2 != 0 {
		summed = append(summed, 0)
	}
	sum := uint32(0)
	for i := 0; i < len(summed); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(summed[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(datagram[6:], ^uint16(sum))
	return datagram
}
