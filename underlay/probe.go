package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Three probes, as RFC 5227 §1.1 has it, but closer together: a container shall
// not wait for seconds. Whoever answers at all on a wire does so within a few milliseconds.
const (
	probes     = 3
	probeEvery = 100 * time.Millisecond
	probeLimit = 400 * time.Millisecond
)

// Probe asks on the network's wire whether somebody has addr, which nobody may
// know of: an ARP probe (RFC 5227 §2.1.1), or the solicitation of Duplicate
// Address Detection (RFC 4862 §5.4). It returns the holder's MAC if one
// answers, or probes for the same address; after 400 ms it takes the address to
// be free. With -o probe=false, or as long as this host has no way to the wire,
// nobody is asked. It may be called from any goroutine.
func (p *Plane) Probe(ctx context.Context, network fabric.Network, addr netip.Addr) (holder fabric.MAC, taken bool, err error) {
	if on, err := strconv.ParseBool(network.Options["probe"]); err == nil && !on {
		return fabric.MAC{}, false, nil
	}
	link, found, err := p.wayOut(network)
	if err != nil || !found {
		return fabric.MAC{}, false, wrap(err)
	}
	if own, err := p.isHosts(addr); err != nil || own {
		return macOf(link), own, wrap(err)
	}
	holder, taken, err = p.probe(ctx, link, addr.Unmap())
	if errors.Is(err, unix.ENETDOWN) {
		return fabric.MAC{}, false, nil
	}
	if err != nil {
		return fabric.MAC{}, false, wrap(fmt.Errorf("probe %s on %s: %w", addr, link.Attrs().Name, err))
	}
	return holder, taken, nil
}

// wayOut is the network's bridge or, before it is made, the NIC that it will take.
func (p *Plane) wayOut(network fabric.Network) (netlink.Link, bool, error) {
	link, found, err := p.kernel.find(bridgeName(network))
	if found || err != nil || network.Parent == "" || network.VLAN != 0 {
		return link, found, err
	}
	return p.kernel.find(network.Parent)
}

// isHosts says whether the host itself has addr: its own frames do not come back to it.
func (p *Plane) isHosts(addr netip.Addr) (bool, error) {
	addresses, err := p.kernel.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if have, ok := netip.AddrFromSlice(a.IP); ok && have.Unmap() == addr.Unmap() {
			return true, nil
		}
	}
	return false, nil
}

func (p *Plane) probe(ctx context.Context, link netlink.Link, addr netip.Addr) (fabric.MAC, bool, error) {
	protocol := uint16(unix.ETH_P_ARP)
	if addr.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	wire, err := openWire(p.kernel.NS(), link, protocol)
	if err != nil {
		return fabric.MAC{}, false, err
	}
	defer wire.Close()
	question := question(macOf(link), addr)
	frame := make([]byte, 2048)
	start := time.Now()
	for n := range probes {
		if _, err := wire.Write(question); err != nil {
			return fabric.MAC{}, false, err
		}
		until := start.Add(time.Duration(n+1) * probeEvery)
		if n == probes-1 {
			until = start.Add(probeLimit)
		}
		holder, taken, err := listen(ctx, wire, frame, until, macOf(link), addr)
		if taken || err != nil {
			return holder, taken, err
		}
	}
	return fabric.MAC{}, false, ctx.Err()
}

// listen waits until the given time for a frame that tells who holds addr.
func listen(ctx context.Context, wire *os.File, frame []byte, until time.Time, own fabric.MAC, addr netip.Addr) (fabric.MAC, bool, error) {
	end, limited := ctx.Deadline()
	limited = limited && end.Before(until)
	if limited {
		until = end
	}
	if err := wire.SetReadDeadline(until); err != nil {
		return fabric.MAC{}, false, err
	}
	for {
		n, err := wire.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) && limited {
			return fabric.MAC{}, false, context.DeadlineExceeded // ctx itself may be a moment late
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fabric.MAC{}, false, ctx.Err()
		}
		if err != nil {
			return fabric.MAC{}, false, err
		}
		if mac, claims := claims(frame[:n], addr); claims && mac != own {
			return mac, true, nil
		}
	}
}

// question asks for addr without laying claim to it: no cache learns from it.
func question(from fabric.MAC, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp{op: arpRequest, senderMAC: from, sender: netip.IPv4Unspecified(), target: addr}.broadcast()
	}
	return nd{
		kind: neighbourSolicitation, mac: from, source: netip.IPv6Unspecified(), target: addr,
	}.multicast(solicitedNode(addr))
}

// claims reads who lays claim to addr: who answers for it, speaks from it, or
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
