// Package echo asks an address whether it answers, by ICMP and ICMPv6 echo requests that
// the stack of a network namespace sends.
package echo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// Request is what to send, and how often. The zero values of what is optional are the
// kernel's choice, or the smallest.
type Request struct {
	To netip.Addr // with the zone where it is link-local
	// From is optional.
	From netip.Addr
	// ID is the identifier that tells the request from others; optional.
	ID uint16
	// Size is that of the whole IP packet in bytes, which is not to be fragmented; optional.
	Size int
	// Times is how often to ask; zero: until the context ends.
	Times int
	// Every is how long each is waited for.
	Every time.Duration
}

// Ask says whether To answers. That the namespace knows no way to it, or is told that there
// is none, is no error.
func Ask(ctx context.Context, ns netns.NsHandle, r Request) (answered bool, err error) {
	answer, err := Measure(ctx, ns, r)
	return answer.After > 0, err
}

// Answer is how an address answered.
type Answer struct {
	// Asked is how many requests it was sent.
	Asked int
	// After is how long after the last of them the reply came; zero: none did.
	After time.Duration
}

// Measure is Ask with the number of requests and the time to the reply.
func Measure(ctx context.Context, ns netns.NsHandle, r Request) (answer Answer, err error) {
	network, protocol := "ip4:icmp", unix.IPPROTO_ICMP
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if r.To.Is6() {
		network, protocol = "ip6:ipv6-icmp", unix.IPPROTO_ICMPV6
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	from := ""
	if r.From.IsValid() {
		from = r.From.String()
	}
	if r.ID == 0 {
		r.ID = uint16(rand.IntN(1 << 16))
	}
	var conn net.PacketConn
	err = nl.Do(ns, func() (err error) {
		conn, err = (&net.ListenConfig{Control: r.whole}).ListenPacket(ctx, network, from)
		return err
	})
	if err != nil {
		return answer, fmt.Errorf("ask %s: %w", r.To, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	body := &icmp.Echo{ID: int(r.ID), Data: r.data()}
	for ; ctx.Err() == nil && (r.Times == 0 || body.Seq < r.Times); body.Seq++ {
		text, err := (&icmp.Message{Type: request, Body: body}).Marshal(nil)
		if err != nil {
			return answer, fmt.Errorf("ask %s: %w", r.To, err)
		}
		began := time.Now()
		answer.Asked++
		if _, err := conn.WriteTo(text, &net.IPAddr{IP: nl.IP(r.To), Zone: r.To.Zone()}); err != nil && !Unreachable(err) {
			return answer, fmt.Errorf("ask %s: %w", r.To, err)
		}
		if r.answered(ctx, conn, protocol, reply) {
			answer.After = max(1, time.Since(began))
			return answer, nil
		}
	}
	return answer, ctx.Err()
}

const header = 8 // of ICMP's echo

func (r Request) data() []byte {
	const ip4, ip6 = 20, 40
	size := len("causeway")
	if r.Size > 0 {
		size = max(r.Size-header-ip4, 0)
		if r.To.Is6() {
			size = max(r.Size-header-ip6, 0)
		}
	}
	data := make([]byte, size)
	copy(data, "causeway")
	return data
}

// whole has large packets sent as they are, whatever the kernel heard of the path's MTU.
func (r Request) whole(_, _ string, conn syscall.RawConn) (err error) {
	if r.Size == 0 {
		return nil
	}
	level, option, probe := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if r.To.Is6() {
		level, option, probe = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	}
	failed := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, probe) })
	return errors.Join(failed, err)
}

// answered reads what comes in until it is the reply, or the time of one request is over.
func (r Request) answered(ctx context.Context, conn net.PacketConn, protocol int, reply icmp.Type) bool {
	until := time.Now().Add(r.Every)
	if end, limited := ctx.Deadline(); limited && end.Before(until) {
		until = end
	}
	if conn.SetReadDeadline(until) != nil {
		return false
	}
	packet := make([]byte, 1<<16)
	for {
		n, sender, err := conn.ReadFrom(packet)
		if Unreachable(err) {
			continue
		}
		if err != nil {
			return false
		}
		message, err := icmp.ParseMessage(protocol, packet[:n])
		if err != nil || message.Type != reply {
			continue
		}
		echo, ok := message.Body.(*icmp.Echo)
		if addr, isIP := sender.(*net.IPAddr); ok && isIP && echo.ID == int(r.ID) && nl.Addr(addr.IP) == r.To.WithZone("") {
			return true
		}
	}
}

// Unreachable says that the kernel knows no way, or is told that there is none.
func Unreachable(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EPERM) ||
		errors.Is(err, unix.EHOSTDOWN) || errors.Is(err, unix.ENETDOWN)
}
