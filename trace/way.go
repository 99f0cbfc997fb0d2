package trace

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// The way of a packet on one host, from the container's port to the wire, in each mode.

// away listens from the container's port on.
func (t Tracer) away(ctx context.Context, segment fabric.Segment, e end, w *watch) error {
	switch segment.Network.Mode {
	case fabric.ModeRouted:
		return t.routed(segment, e, w)
	case fabric.ModeUnderlay:
		return t.bridgedOut(segment, e, w)
	case fabric.ModeOVS:
		return t.switched(ctx, segment, e, w)
	default:
		return t.tunnelled(segment, e, w)
	}
}

// tunnelled: the network's bridge and VXLAN device have a namespace of their own.
func (t Tracer) tunnelled(segment fabric.Segment, e end, w *watch) error {
	ns, device, err := t.Tunnels.Tunnel(e.network)
	if err != nil {
		return err
	}
	defer ns.Close()
	inside, err := nl.Open(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	port, err := inside.Link(nl.HostEnd(e.self.ID))
	if err != nil {
		return err
	}
	checks := []Check{bridged(inside, port, e.self.MAC), neighbour(inside, port.Attrs().MasterIndex, e.addr, e.other.MAC)}
	if err := w.add(t.hop(Port, port.Attrs().Name, checks), inside, port, ethernetLen); err != nil || e.local {
		return err
	}
	link, err := inside.Link(device)
	if err != nil {
		return err
	}
	vtep, err := t.vtepOf(segment, e)
	if err != nil {
		return err
	}
	checks = []Check{bridged(inside, link, e.other.MAC), entry(inside, link, e.other.MAC, vtep)}
	if err := w.add(t.hop(Tunnel, device, checks), inside, link, ethernetLen); err != nil {
		return err
	}
	return t.wire(segment.VTEP, vtep, udpTunnel, w)
}

// routed: the host routes between the network's bridge and the NIC, or a VXLAN device of all
// routed networks, of which the encrypted ones have another.
func (t Tracer) routed(segment fabric.Segment, e end, w *watch) error {
	host, port, err := t.port(e)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := w.add(t.hop(Port, port.Attrs().Name, []Check{bridged(host, port, e.self.MAC)}), host, port, ethernetLen); err != nil || e.local {
		return err
	}
	way := behind(segment.Routes, e.addr)
	vtep := way.VTEP
	check := Check{fmt.Sprintf("route to %s, which is behind %s", e.addr, vtep), nothing}
	routes, err := host.RouteGet(nl.IP(e.addr))
	if err != nil || len(routes) == 0 {
		w.skip(t.hop(NIC, "that leads to "+vtep.String(), []Check{check}))
		return nil
	}
	link, err := host.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return err
	}
	if link.Type() != "vxlan" {
		if routes[0].Gw != nil && nl.Addr(routes[0].Gw) == vtep {
			check.Have = check.Want
		} else {
			check.Have = fmt.Sprintf("route to %s by %s", e.addr, link.Attrs().Name)
		}
		return w.add(t.hop(NIC, link.Attrs().Name, []Check{check}), host, link, ethernetLen)
	}
	if link.Attrs().Name == fabric.SealedDevice == segment.Network.Encrypted {
		check.Have = check.Want
	}
	if segment.Network.Encrypted {
		vtep = way.End
	}
	mac, known := macOf(host, link, routes[0])
	next := Check{"FDB of the next hop to " + vtep.String(), nothing}
	if known {
		next = entry(host, link, mac, vtep)
	}
	if err := w.add(t.hop(Tunnel, link.Attrs().Name, []Check{check, next}), host, link, ethernetLen); err != nil {
		return err
	}
	return t.wire(segment.VTEP, vtep, udpTunnel, w)
}

// behind gives the way that the routes lead for an address: the longest prefix counts.
func behind(routes []fabric.Route, addr netip.Addr) (way fabric.Way) {
	bits := -1
	for _, route := range routes {
		if route.Prefix.Contains(addr) && route.Prefix.Bits() > bits {
			bits, way = route.Prefix.Bits(), route.Way
		}
	}
	return way
}

// macOf is that of a route's next hop.
func macOf(host *nl.Handle, link netlink.Link, route netlink.Route) (mac fabric.MAC, known bool) {
	via := route.Gw
	if six, ok := route.Via.(*netlink.Via); ok { // an IPv6 next hop of an IPv4 route (RFC 8950)
		via = six.Addr
	}
	if via == nil {
		return mac, false
	}
	neighbours, err := host.NeighList(link.Attrs().Index, familyOf(nl.Addr(via)))
	for _, n := range neighbours {
		if err == nil && n.IP.Equal(via) && len(n.HardwareAddr) == len(mac) {
			return fabric.MAC(n.HardwareAddr), true
		}
	}
	return mac, false
}

// bridgedOut: the network is a bridge with the NIC in it, which learns where MACs are.
func (t Tracer) bridgedOut(segment fabric.Segment, e end, w *watch) error {
	host, port, err := t.port(e)
	if err != nil {
		return err
	}
	defer host.Close()
	check := bridged(host, port, e.self.MAC)
	if check.Have == nothing {
		check = flooded(e.self.MAC)
	}
	if err := w.add(t.hop(Port, port.Attrs().Name, []Check{check}), host, port, ethernetLen); err != nil || e.local {
		return err
	}
	nic, err := host.LinkByName(t.Device(segment.Network))
	check = flooded(e.other.MAC)
	if index := learned(host, port, e.other.MAC); index != 0 {
		check.Want = fmt.Sprintf("FDB of the bridge: %s behind the NIC", e.other.MAC)
		check.Have = fmt.Sprintf("FDB of the bridge: %s behind %s", e.other.MAC, nameOf(host, index))
		if err == nil && nic.Attrs().Index == index {
			check.Have = check.Want
		} else if err != nil { // a bridge of the user's own
			nic, err = host.LinkByIndex(index)
			check.Want = check.Have
		}
	}
	if err != nil {
		w.skip(t.hop(NIC, "of the bridge", []Check{check}))
		return nil
	}
	return w.add(t.hop(NIC, nic.Attrs().Name, []Check{check}), host, nic, ethernetLen)
}

// switched: Open vSwitch has the port, and sends what its flows wrap by the NIC, or what is
// encrypted by a VXLAN device of the network's own.
func (t Tracer) switched(ctx context.Context, segment fabric.Segment, e end, w *watch) error {
	host, port, err := t.port(e)
	if err != nil {
		return err
	}
	defer host.Close()
	check := Check{"ports and flows of the network as planned", "ports and flows of the network as planned"}
	if _, differences, err := t.Planes.Inspect(ctx, e.network); err != nil {
		check.Have = err.Error()
	} else if len(differences) > 0 {
		check.Have = strings.Join(differences, "; ")
	}
	if err := w.add(t.hop(Port, port.Attrs().Name, []Check{check}), host, port, ethernetLen); err != nil || e.local {
		return err
	}
	vtep, err := t.vtepOf(segment, e)
	if err != nil {
		return err
	}
	if segment.Network.Encrypted {
		device, err := host.Link(fabric.SealedPort(segment.Network))
		if err != nil {
			return err
		}
		checks := []Check{entry(host, device, e.other.MAC, vtep)}
		if err := w.add(t.hop(Tunnel, device.Attrs().Name, checks), host, device, ethernetLen); err != nil {
			return err
		}
	}
	wrap := udpTunnel
	if segment.Network.Tunnel == "gre" {
		wrap = greTunnel
	}
	return t.wire(segment.VTEP, vtep, wrap, w)
}

// port opens the host's namespace, and finds the host's end of the container's pair there.
func (t Tracer) port(e end) (*nl.Handle, netlink.Link, error) {
	host, err := nl.Open(netns.None())
	if err != nil {
		return nil, nil, err
	}
	port, err := host.Link(nl.HostEnd(e.self.ID))
	if err != nil {
		_ = host.Close() // it was only read
		return nil, nil, err
	}
	return host, port, nil
}

func (t Tracer) vtepOf(segment fabric.Segment, e end) (netip.Addr, error) {
	for _, peer := range segment.Remote {
		if peer.ID == e.other.ID {
			return peer.VTEP, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("host %s does not know container %s yet", t.Host.Shown(), e.other.Name)
}

// wire adds the interface by which the kernel reaches the other VTEP. On WireGuard's the
// packet is still readable; past it, it is not.
func (t Tracer) wire(own, vtep netip.Addr, wrap int, w *watch) error {
	host, err := nl.Open(netns.None())
	if err != nil {
		return err
	}
	defer host.Close()
	check := Check{fmt.Sprintf("route to %s from %s", vtep, own), nothing}
	routes, err := host.RouteGetWithOptions(nl.IP(vtep), &netlink.RouteGetOptions{SrcAddr: nl.IP(own)})
	if err != nil || len(routes) == 0 {
		w.skip(t.hop(NIC, "that leads to "+vtep.String(), []Check{check}))
		return nil
	}
	check.Have = check.Want // else the kernel would have refused the source
	link, err := host.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return err
	}
	offset := ipv4Len + wrap + ethernetLen
	if vtep.Is6() {
		offset = ipv6Len + wrap + ethernetLen
	}
	hop := t.hop(NIC, link.Attrs().Name, []Check{check})
	switch {
	case link.Attrs().EncapType == "none": // packets without an Ethernet header
		hop.Kind = WireGuard
		return w.add(hop, host, link, offset)
	case link.Type() == "tun" || link.Type() == "tuntap": // a port of a switch in user space, whose tunnels leave below it
		w.skip(hop)
		return nil
	}
	return w.add(hop, host, link, ethernetLen+offset)
}
