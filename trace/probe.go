package trace

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/wire"
)

const (
	echoes     = 3
	echoEvery  = 400 * time.Millisecond
	connecting = 1300 * time.Millisecond // TCP sends a second SYN after one second
)

// outcome is what came of a probe.
type outcome int

const (
	silent outcome = iota
	answered
	refused // by a TCP reset
)

// probe sends the flow's packets from a container's namespace.
func (f Flow) probe(ctx context.Context, ns netns.NsHandle) (outcome, error) {
	if f.Port != 0 {
		return f.connect(ctx, ns)
	}
	network, kind := "ip4:icmp", byte(echo4)
	if f.To.Is6() {
		network, kind = "ip6:ipv6-icmp", echo6
	}
	var conn net.PacketConn
	err := nl.Do(ns, func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(ctx, network, f.From.String())
		return err
	})
	if err != nil {
		return silent, err
	}
	defer conn.Close()
	for sequence := range echoes {
		if _, err := conn.WriteTo(f.echo(kind, uint16(sequence)), &net.IPAddr{IP: f.To.AsSlice()}); err != nil && !unreachable(err) {
			return silent, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(echoEvery)); err != nil {
			return silent, err
		}
		if came, err := f.hear(conn); came || err != nil {
			return answered, err
		}
	}
	return silent, ctx.Err()
}

// hear waits for an echo reply until the deadline.
func (f Flow) hear(conn net.PacketConn) (bool, error) {
	reply := byte(reply4)
	if f.To.Is6() {
		reply = reply6
	}
	message := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(message)
		if errors.Is(err, os.ErrDeadlineExceeded) || unreachable(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		addr, ok := from.(*net.IPAddr)
		if ok && n >= echoHeader && message[0] == reply && binary.BigEndian.Uint16(message[4:]) == f.Mark && nl.Addr(addr.IP) == f.To {
			return true, nil
		}
	}
}

// connect opens a TCP connection, and closes it.
func (f Flow) connect(ctx context.Context, ns netns.NsHandle) (outcome, error) {
	dialer := net.Dialer{Timeout: connecting, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.From, f.Mark))}
	err := nl.Do(ns, func() error {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(f.To, f.Port).String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	timeout, isNet := net.Error(nil), false
	if isNet = errors.As(err, &timeout); isNet {
		isNet = timeout.Timeout()
	}
	switch {
	case err == nil:
		return answered, nil
	case errors.Is(err, unix.ECONNREFUSED):
		return refused, nil
	case isNet, unreachable(err):
		return silent, ctx.Err()
	}
	return silent, err
}

// unreachable says that the container's kernel knows no way, or is told that there is none.
func unreachable(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EPERM) ||
		errors.Is(err, unix.EHOSTDOWN) || errors.Is(err, unix.ENETDOWN)
}

// echo is an ICMP echo request. The checksum of ICMPv6 is the kernel's to write.
func (f Flow) echo(kind byte, sequence uint16) []byte {
	message := make([]byte, echoHeader+24)
	message[0] = kind
	binary.BigEndian.PutUint16(message[4:], f.Mark)
	binary.BigEndian.PutUint16(message[6:], sequence)
	copy(message[echoHeader:], "causeway trace")
	if f.To.Is4() {
		binary.BigEndian.PutUint16(message[2:], wire.Checksum(message))
	}
	return message
}
