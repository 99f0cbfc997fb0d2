package planetest

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Container is a network namespace in place of a container: it does with the link what
// Docker does.
type Container struct {
	Endpoint fabric.Endpoint
	Host     *Host
	Link     string // its name in the host's namespace
	routes   []netlink.Route
	*nl.Handle
}

// Record makes an endpoint of network on host, with the last number of its
// addresses. No plane is told.
func (r *Rig) Record(host *Host, network fabric.Network, number int) fabric.Endpoint {
	four, six := network.Subnets[0].Prefix.Addr(), network.Subnets[1].Prefix.Addr()
	for range number {
		four, six = four.Next(), six.Next()
	}
	endpoint := fabric.Endpoint{
		ID: fmt.Sprintf("%s-%d", network.ID, number), Network: network.ID, Host: host.Name,
		MAC:   fabric.DeriveMAC(network.ID, four),
		Addrs: []netip.Prefix{netip.PrefixFrom(four, subnet4.Bits()), netip.PrefixFrom(six, subnet6.Bits())},
	}
	r.state.Endpoints[network.ID][endpoint.ID] = endpoint
	return endpoint
}

// Plug asks the host's plane for the endpoint's link.
func (r *Rig) Plug(host *Host, network fabric.Network, endpoint fabric.Endpoint) string {
	r.t.Helper()
	link, err := host.Plane.Plug(r.t.Context(), r.Segment(host, network), endpoint)
	if err != nil {
		r.t.Fatalf("%s: %v", host.Name, err)
	}
	return link
}

// Start runs a container: all hosts know its endpoint, and it has its link.
func (r *Rig) Start(host *Host, network fabric.Network, number int) *Container {
	r.t.Helper()
	endpoint := r.Record(host, network, number)
	r.Apply()
	link := r.Plug(host, network, endpoint)
	container := &Container{Endpoint: endpoint, Host: host, Link: link, Handle: newNamespace(r.t)}
	if r.config.Routed {
		container.routes = halves(network)
	}
	container.take(r.t)
	return container
}

// take moves the link in and calls it eth0.
func (c *Container) take(t *testing.T) {
	t.Helper()
	link, err := c.Host.handle.Link(c.Link)
	must(t, err)
	must(t, c.Host.handle.LinkSetNsFd(link, int(c.NS())))
	link, err = c.Handle.Link(c.Link)
	must(t, err)
	must(t, c.LinkSetName(link, "eth0"))
	for _, address := range c.Endpoint.Addrs {
		setAddress(t, c.Handle, "eth0", address)
	}
	takeUp(t, c.Handle, "lo")
	takeUp(t, c.Handle, "eth0")
	for _, route := range c.routes {
		route.LinkIndex = link.Attrs().Index
		must(t, c.RouteAdd(&route))
	}
}

// halves are the routes that Docker's Join is answered with.
func halves(network fabric.Network) (routes []netlink.Route) {
	for _, subnet := range network.Subnets {
		for _, half := range fabric.Halves(subnet.Prefix, subnet.Gateway) {
			to := &net.IPNet{IP: half.Addr().AsSlice(), Mask: net.CIDRMask(half.Bits(), half.Addr().BitLen())}
			routes = append(routes, netlink.Route{Dst: to, Gw: subnet.Gateway.AsSlice()})
		}
	}
	return routes
}

// giveBack moves the link back to the host under its old name.
func (c *Container) giveBack(t *testing.T) {
	t.Helper()
	link, err := c.Handle.Link("eth0")
	must(t, err)
	must(t, c.LinkSetDown(link))
	must(t, c.LinkSetName(link, c.Link))
	must(t, c.LinkSetNsFd(link, int(c.Host.NS)))
}

// addrs are the container's addresses, one of each family.
func (c *Container) addrs() []netip.Addr {
	var all []netip.Addr
	for _, prefix := range c.Endpoint.Addrs {
		all = append(all, prefix.Addr())
	}
	return all
}

// Ping says whether to answers within two seconds.
func (c *Container) Ping(t *testing.T, to netip.Addr) bool {
	t.Helper()
	out, err := Output(t, c.NS(), "ping", "-n", "-q", "-c", "1", "-i", "0.1", "-w", "2", to.String())
	if err != nil && !strings.Contains(out, "packet loss") {
		t.Fatalf("ping: %v: %s", err, out)
	}
	return err == nil
}

// mustReach wants each of the containers to reach each other by both families.
func mustReach(t *testing.T, containers ...*Container) {
	t.Helper()
	for _, from := range containers {
		for _, to := range containers {
			for _, addr := range to.addrs() {
				if from != to && !from.Ping(t, addr) {
					t.Errorf("%s does not reach %s at %s", from.Endpoint.ID, to.Endpoint.ID, addr)
				}
			}
		}
	}
}

func newNamespace(t *testing.T) *nl.Handle {
	t.Helper()
	ns, err := nl.NewNamespace()
	must(t, err)
	defer ns.Close()
	handle, err := nl.Open(ns)
	must(t, err)
	t.Cleanup(func() { handle.Close() })
	return handle
}

func takeUp(t *testing.T, handle *nl.Handle, name string) {
	t.Helper()
	link, err := handle.Link(name)
	must(t, err)
	must(t, handle.LinkSetUp(link))
}

// setAddress gives an address that can be used at once: without IPv6's search
// for duplicates.
func setAddress(t *testing.T, handle *nl.Handle, name string, prefix netip.Prefix) {
	t.Helper()
	link, err := handle.Link(name)
	must(t, err)
	address, err := netlink.ParseAddr(prefix.String())
	must(t, err)
	if prefix.Addr().Is6() {
		const nodad = 0x02 // IFA_F_NODAD
		address.Flags = nodad
	}
	must(t, handle.AddrAdd(link, address))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
