package underlay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// ping asks addr, by the host's own stack and through its firewall, until it
// answers or ctx ends. link is for link-local addresses.
func ping(ctx context.Context, ns netns.NsHandle, link netlink.Link, addr netip.Addr) error {
	network, protocol := "ip4:icmp", unix.IPPROTO_ICMP
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	to := &net.IPAddr{IP: nl.IP(addr)}
	if addr.Is6() {
		network, protocol = "ip6:ipv6-icmp", unix.IPPROTO_ICMPV6
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		if addr.IsLinkLocalUnicast() {
			to.Zone = strconv.Itoa(link.Attrs().Index)
		}
	}
	var conn *icmp.PacketConn
	err := nl.Do(ns, func() (err error) {
		conn, err = icmp.ListenPacket(network, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("ping %s: %w", addr, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	echo := &icmp.Echo{ID: rand.IntN(1 << 16), Data: []byte("causeway")}
	for ctx.Err() == nil {
		echo.Seq++
		text, err := (&icmp.Message{Type: request, Body: echo}).Marshal(nil)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(text, to); err != nil {
			return fmt.Errorf("ping %s: %w", addr, err)
		}
		if answered(ctx, conn, protocol, reply, echo.ID, addr) {
			return nil
		}
	}
	return fmt.Errorf("ping %s: %w", addr, ctx.Err())
}

// answered reads what comes in within a short time, until it is the reply.
func answered(ctx context.Context, conn *icmp.PacketConn, protocol int, reply icmp.Type, id int, from netip.Addr) bool {
	const wait = 250 * time.Millisecond
	until := time.Now().Add(wait)
	if end, limited := ctx.Deadline(); limited && end.Before(until) {
		until = end
	}
	if conn.SetReadDeadline(until) != nil {
		return false
	}
	packet := make([]byte, 1500)
	for {
		n, sender, err := conn.ReadFrom(packet)
		if err != nil {
			return false
		}
		message, err := icmp.ParseMessage(protocol, packet[:n])
		if err != nil || message.Type != reply {
			continue
		}
		echo, ok := message.Body.(*icmp.Echo)
		if addr, isIP := sender.(*net.IPAddr); ok && isIP && echo.ID == id && nl.Addr(addr.IP) == from {
			return true
		}
	}
}
