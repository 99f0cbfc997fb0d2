// Package addrprobe detects on a link who uses an address, and announces who uses it:
// by ARP for IPv4, by Neighbour Discovery for IPv6.
//
// A question's path: [Probe] opens a packet socket on the link, broadcasts the
// question (frame.go), and reads until a station claims the address or the time
// is over. The socket takes nothing but ARP, or neighbour messages (filter.go).
package addrprobe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/wire"
)

// Three probes, as RFC 5227 §1.1 has it, but closer together: a container must
// not wait for seconds. A station that answers at all does so within a few milliseconds.
const (
	probes     = 3
	probeEvery = 100 * time.Millisecond
	probeLimit = 400 * time.Millisecond
)

// Probe asks on link, in namespace ns, whether a station has addr: an ARP probe
// (RFC 5227 §2.1.1), or the solicitation of Duplicate Address Detection (RFC 4862
// §5.4), which change no neighbour cache. It returns the holder's MAC if one
// answers, or probes for the same address; after 400 ms the address is free.
func Probe(ctx context.Context, ns netns.NsHandle, link netlink.Link, addr netip.Addr) (holder fabric.MAC, taken bool, err error) {
	err = probe(ctx, ns, link, addr.Unmap(), func(mac fabric.MAC) (enough bool) {
		holder, taken = mac, true
		return true
	})
	return holder, taken, err
}

// Holders asks as [Probe] does, for the whole 400 ms, and gives the MACs of all that answer.
func Holders(ctx context.Context, ns netns.NsHandle, link netlink.Link, addr netip.Addr) (holders []fabric.MAC, err error) {
	err = probe(ctx, ns, link, addr.Unmap(), func(mac fabric.MAC) (enough bool) {
		if !slices.Contains(holders, mac) {
			holders = append(holders, mac)
		}
		return false
	})
	return holders, err
}

// probe tells heard of each that claims addr until it has enough.
func probe(ctx context.Context, ns netns.NsHandle, link netlink.Link, addr netip.Addr, heard func(fabric.MAC) (enough bool)) error {
	own := macOf(link)
	socket, err := listenFor(ns, link, addr)
	if err != nil {
		return err
	}
	defer socket.Close()
	question := question(own, addr)
	start := time.Now()
	for n := range probes {
		if _, err := socket.Write(question); err != nil {
			return err
		}
		until := start.Add(time.Duration(n+1) * probeEvery)
		if n == probes-1 {
			until = start.Add(probeLimit)
		}
		enough, err := listen(ctx, socket, until, addr, func(mac fabric.MAC) bool { return mac != own && heard(mac) })
		if enough || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// listen tells heard, until the given time or until it has enough, who claims addr.
func listen(ctx context.Context, socket *os.File, until time.Time, addr netip.Addr, heard func(fabric.MAC) (enough bool)) (bool, error) {
	end, limited := ctx.Deadline()
	limited = limited && end.Before(until)
	if limited {
		until = end
	}
	if err := socket.SetReadDeadline(until); err != nil {
		return false, err
	}
	frame := make([]byte, 2048)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) && limited {
			return false, context.DeadlineExceeded // ctx itself may be a moment late
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, ctx.Err()
		}
		if err != nil {
			return false, err
		}
		if mac, claims := claims(frame[:n], addr); claims && heard(mac) {
			return true, nil
		}
	}
}

// question asks for addr without claiming it: no cache learns from it.
func question(from fabric.MAC, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp{op: arpRequest, senderMAC: from, sender: netip.IPv4Unspecified(), target: addr}.broadcast()
	}
	return nd{
		kind: neighbourSolicitation, mac: from, source: netip.IPv6Unspecified(), target: addr,
	}.multicast(solicitedNode(addr))
}

// claims reads who claims addr: a station that answers for it, sends from it, or
// probes for it as well.
func claims(frame []byte, addr netip.Addr) (fabric.MAC, bool) {
	if a, ok := parseARP(frame); ok {
		probes := a.op == arpRequest && a.sender.IsUnspecified() && a.target == addr
		return a.senderMAC, a.sender == addr || probes
	}
	if n, ok := parseND(frame); ok && n.target == addr {
		return n.mac, n.kind == neighbourAdvertisement || n.source.IsUnspecified()
	}
	return fabric.MAC{}, false
}

// Announce tells the neighbours on link that mac has the addresses now, and the
// switches behind which port. The frames are the container's own, sent for it
// out of all ports: neighbours that knew the holder before would not find a
// container that sends nothing, and engines before 28.0 let it send nothing.
func Announce(ns netns.NsHandle, link netlink.Link, mac fabric.MAC, addrs []netip.Prefix) error {
	socket, err := wire.Open(ns, link, 0, nil) // it only sends
	if err != nil {
		return err
	}
	defer socket.Close()
	for _, prefix := range addrs {
		if _, err := socket.Write(announcement(mac, prefix.Addr())); err != nil {
			return fmt.Errorf("announce %s: %w", prefix.Addr(), err)
		}
	}
	return nil
}

// announcement is the ARP announcement of RFC 5227 §2.3, or the unsolicited
// Neighbour Advertisement of RFC 4861 §7.2.6.
func announcement(mac fabric.MAC, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp{op: arpRequest, senderMAC: mac, sender: addr, target: addr}.broadcast()
	}
	const override, targetLinkLayerAddress = 0x20, 2
	return nd{
		kind: neighbourAdvertisement, flags: override, mac: mac, source: addr, target: addr, option: targetLinkLayerAddress,
	}.multicast(netip.IPv6LinkLocalAllNodes())
}

func macOf(link netlink.Link) (mac fabric.MAC) {
	copy(mac[:], link.Attrs().HardwareAddr)
	return mac
}
