package engines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/records"
)

// attachment is one container's life as causeway sees it, by the calls that the engine
// makes, without an engine.
type attachment struct {
	*attempt
	engine  *engine
	store   *storeMeter // nil: this life is not counted
	network string      // as the engine knows it
	pool    string
	id      string
	address string // with its prefix's length
}

// attaching counts what each call asks of the store, and in every second life measures how
// long it takes from Join's answer until the other host answers the new endpoint's first
// packet.
func attaching(ctx context.Context, a *attempt) error {
	id, err := docker(ctx, a.hosts[0], "network", "inspect", "-f", "{{.Id}}", a.network(false))
	if err != nil {
		return err
	}
	meter, err := newStoreMeter(a.hosts)
	if err != nil {
		return err
	}
	end, err := a.server.echo(echoPort)
	if err != nil {
		return err
	}
	defer end()
	for n := range 2 * a.repeat {
		one := attachment{
			attempt: a, engine: newEngine(a.hosts[0]), network: id,
			pool: records.PoolID(records.DefaultSpace, netip.MustParsePrefix(a.subnet(false))),
			id:   fmt.Sprintf("%032d%016x%016x", a.round, n, time.Now().UnixNano()),
		}
		if n%2 == 0 {
			one.store = meter
		}
		if err := one.live(ctx); err != nil {
			return err
		}
	}
	return nil
}

// live is the whole life. What was begun is ended by the same calls, also after an error.
func (o *attachment) live(ctx context.Context) (err error) {
	var given ipam.RequestAddressResponse
	if _, err := o.call(ctx, "RequestAddress", ipam.RequestAddressRequest{PoolID: o.pool}, &given); err != nil {
		return err
	}
	o.address = given.Address
	address, _, _ := strings.Cut(given.Address, "/")
	finish := func(handler string, request any) {
		_, failed := o.call(ctx, handler, request, new(struct{}))
		err = errors.Join(err, failed)
	}
	defer finish("ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: o.pool, Address: address})
	created, err := o.call(ctx, "CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: o.network, EndpointID: o.id, Interface: &network.EndpointInterface{Address: given.Address},
	}, new(network.CreateEndpointResponse))
	if err != nil {
		return err
	}
	defer finish("DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: o.network, EndpointID: o.id})
	var answer network.JoinResponse
	joined, err := o.call(ctx, "Join", network.JoinRequest{NetworkID: o.network, EndpointID: o.id}, &answer)
	if err != nil {
		return err
	}
	defer finish("Leave", network.LeaveRequest{NetworkID: o.network, EndpointID: o.id})
	if o.store == nil {
		return o.answered(ctx, answer)
	}
	o.add("etcd-requests", both, created.requests+joined.requests)
	o.add("etcd-bytes", both, created.bytes+joined.bytes)
	return nil
}

// answered gives the link to a namespace as the engine does, and waits for the answer to
// its first packet.
func (o *attachment) answered(ctx context.Context, joined network.JoinResponse) error {
	began := time.Now()
	sandbox, err := nl.NewNamespace()
	if err != nil {
		return err
	}
	defer sandbox.Close()
	if err := o.hand(ctx, joined.InterfaceName.SrcName, sandbox, joined.StaticRoutes); err != nil {
		return err
	}
	handed := time.Now()
	var conn net.Conn
	err = nl.Do(sandbox, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "udp4", fmt.Sprintf("%s:%d", o.server.addr, o.server.seen(echoPort)))
		return err
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	answer, err := firstAnswer(ctx, conn)
	if err != nil {
		return err
	}
	o.add("answer", "from Join's answer, ms", milliseconds(answer.Sub(began)))
	o.add("answer", "of it the link's move into the container, ms", milliseconds(handed.Sub(began)))
	return nil
}

// hand moves the link, and gives it its address and the network's routes.
func (o *attachment) hand(ctx context.Context, name string, sandbox netns.NsHandle, routes []*network.StaticRoute) error {
	home, err := netns.GetFromPid(o.engine.host.PID())
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := nl.Open(home)
	if err != nil {
		return err
	}
	defer there.Close()
	link, err := there.Link(name)
	if err != nil {
		return err
	}
	if err := there.LinkSetNsFd(link, int(sandbox)); err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	here, err := nl.Open(sandbox)
	if err != nil {
		return err
	}
	defer here.Close()
	if link, err = here.Link(name); err != nil {
		return err
	}
	address, err := netlink.ParseAddr(o.address)
	if err != nil {
		return err
	}
	if err := errors.Join(here.AddrAdd(link, address), here.LinkSetUp(link)); err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	if err := until(ctx, func() error { return carries(here, name) }); err != nil {
		return err
	}
	for _, route := range routes {
		_, to, err := net.ParseCIDR(route.Destination)
		if err != nil {
			return err
		}
		wanted := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Gw: net.ParseIP(route.NextHop)}
		if err := here.RouteAdd(wanted); err != nil {
			return fmt.Errorf("route %s: %w", wanted, err)
		}
	}
	return nil
}

// carries says whether frames pass: the kernel drops them for a moment after a link is up.
func carries(h *nl.Handle, name string) error {
	link, err := h.Link(name)
	if err == nil && link.Attrs().OperState != netlink.OperUp {
		err = fmt.Errorf("%s is %s", name, link.Attrs().OperState)
	}
	return err
}

// call makes one call and, in a life that is counted, notes what it asked of the store.
func (o *attachment) call(ctx context.Context, handler string, request, response any) (used counters, err error) {
	service := "NetworkDriver."
	if handler == "RequestAddress" || handler == "ReleaseAddress" {
		service = "IpamDriver."
	}
	if o.store == nil {
		return used, o.engine.call(ctx, service+handler, request, response)
	}
	before, err := o.store.read(ctx)
	if err != nil {
		return used, err
	}
	if err := o.engine.call(ctx, service+handler, request, response); err != nil {
		return used, err
	}
	after, err := o.store.read(ctx)
	if err != nil {
		return used, err
	}
	used = after.since(before)
	o.add("etcd-requests", handler, used.requests)
	o.add("etcd-bytes", handler, used.bytes)
	return used, nil
}
