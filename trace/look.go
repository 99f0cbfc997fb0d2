package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/sandbox"
)

// end is one end of the probe as its host has it.
type end struct {
	network     string
	self, other fabric.Endpoint
	addr        netip.Addr // the other's
	local       bool       // the other is on this host, too
}

// nothing is what the kernel has where it has nothing.
const nothing = "nothing"

// listen adds this host's hops to w, from the container out to the NIC. It gives the
// container's namespace, which the caller closes.
func (t Tracer) listen(ctx context.Context, e end, w *watch) (container netns.NsHandle, err error) {
	segment, ok, err := t.Planes.Segment(ctx, e.network)
	if err != nil {
		return netns.None(), err
	}
	if !ok {
		return netns.None(), fmt.Errorf("host %s does not have the network", t.Host.Shown())
	}
	container, err = t.container(e, w)
	if err != nil {
		return container, err
	}
	return container, t.away(ctx, segment, e, w)
}

func (t Tracer) hop(kind Kind, name string, checks []Check) Hop {
	return Hop{Host: t.Host.Shown(), Kind: kind, Name: name, Checks: checks}
}

// container adds the container's own interface.
func (t Tracer) container(e end, w *watch) (netns.NsHandle, error) {
	ns, link, err := sandbox.Find(t.SandboxDir, e.self)
	if errors.Is(err, nl.ErrNotFound) {
		return netns.None(), fmt.Errorf("container %s does not run on host %s: %w", e.self.Name, t.Host.Shown(), err)
	}
	if err != nil {
		return netns.None(), err
	}
	inside, err := nl.Open(ns)
	if err != nil {
		return ns, err
	}
	defer inside.Close()
	check := Check{fmt.Sprintf("route to %s by %s", e.addr, link.Attrs().Name), nothing}
	routes, err := inside.RouteGet(nl.IP(e.addr))
	if err == nil && len(routes) > 0 {
		check.Have = fmt.Sprintf("route to %s by %s", e.addr, nameOf(inside, routes[0].LinkIndex))
	}
	return ns, w.add(t.hop(Container, e.self.Name, []Check{check}), inside, link, ethernetLen)
}

func nameOf(handle *nl.Handle, index int) string {
	link, err := handle.LinkByIndex(index)
	if err != nil {
		return fmt.Sprint("interface ", index)
	}
	return link.Attrs().Name
}

// neighbour looks in the bridge's table for the MAC that has an address.
func neighbour(inside *nl.Handle, bridge int, addr netip.Addr, mac fabric.MAC) Check {
	check := Check{fmt.Sprintf("neighbour %s to %s", addr, mac), nothing}
	neighbours, err := inside.NeighList(bridge, familyOf(addr))
	for _, n := range neighbours {
		if err == nil && nl.Addr(n.IP) == addr {
			check.Have = fmt.Sprintf("neighbour %s to %s", addr, n.HardwareAddr)
		}
	}
	return check
}

func familyOf(addr netip.Addr) int {
	if addr.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// bridged looks in the bridge's FDB for the port that a MAC is behind.
func bridged(inside *nl.Handle, port netlink.Link, mac fabric.MAC) Check {
	check := Check{fmt.Sprintf("FDB of the bridge: %s behind %s", mac, port.Attrs().Name), nothing}
	if index := learned(inside, port, mac); index != 0 {
		check.Have = fmt.Sprintf("FDB of the bridge: %s behind %s", mac, nameOf(inside, index))
	}
	return check
}

// flooded is how a bridge that learns has a MAC that has sent nothing lately.
func flooded(mac fabric.MAC) Check {
	text := fmt.Sprintf("FDB of the bridge: %s not learned, its frames go to all ports", mac)
	return Check{text, text}
}

// learned gives the interface that a MAC is behind, in the bridge that port is in; 0 for none.
func learned(inside *nl.Handle, port netlink.Link, mac fabric.MAC) (index int) {
	for _, n := range fdb(inside, mac) {
		if n.MasterIndex == port.Attrs().MasterIndex {
			index = n.LinkIndex
		}
	}
	return index
}

// entry looks in a tunnel's FDB for the VTEP that has a MAC.
func entry(inside *nl.Handle, tunnel netlink.Link, mac fabric.MAC, vtep netip.Addr) Check {
	check := Check{fmt.Sprintf("FDB %s to %s", mac, vtep), nothing}
	for _, n := range fdb(inside, mac) {
		if n.LinkIndex == tunnel.Attrs().Index && n.IP != nil {
			check.Have = fmt.Sprintf("FDB %s to %s", mac, nl.Addr(n.IP))
		}
	}
	return check
}

// fdb gives the namespace's entries for a MAC.
func fdb(inside *nl.Handle, mac fabric.MAC) (found []netlink.Neigh) {
	entries, err := inside.NeighList(0, unix.AF_BRIDGE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	for _, n := range entries {
		if n.HardwareAddr.String() == mac.String() {
			found = append(found, n)
		}
	}
	return found
}
