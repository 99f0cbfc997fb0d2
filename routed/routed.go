// Package routed is the data plane of mode=routed: containers of one network on
// different hosts reach each other by routes.
//
//	container        host's namespace                             other host
//	eth0 ─────────── cwgr-<hash> ─ route ── the host's NIC ─────── …      direct
//	                                   └─── cw-routed (VXLAN) ──── …      wrapped
//	                                        cw-routed-wg (VXLAN, WireGuard)
//
// Each network has a bridge on each host that has a container on it. The network's
// gateway addresses are the bridge's, under one MAC on all hosts (anycast): a
// question for them is answered at home and never leaves the host.
//
// A packet's path: a container has two routes to the halves of its subnet, by the
// gateway ([fabric.Halves]). So the packet goes to the bridge's own MAC and is
// routed: to the block of another host, or to one address that lies outside of its
// host's blocks (routes.go). The next hop is the other host itself where it is on the
// same link, or its end of the one VXLAN device of all routed networks; of encrypted ones
// it is always its end of another, whose VTEPs are the hosts' WireGuard addresses
// (hops.go, tunnel.go). There the subnet leads to the bridge, which asks for the container's
// MAC. What is broadcast stays on the host's bridge. A container sends as itself alone:
// a filter on the host's end of its pair sees to that, before the bridge
// (internal/portfilter).
//
// Nothing is bridged between hosts, and all networks share the host's routing table:
// their subnets must not overlap. Routes of ours bear the protocol number [fabric.RouteProtocol];
// others are left alone. What passes the host, and the way out, are package gateway's: it
// drops a container's packet whose source leads elsewhere than back to it.
//
// [Plane.Apply] writes what differs from what was written or read last, and reads
// the kernel back after [Plane.Invalidate]; [Plane.Watch] hears what others change.
package routed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/fastpath"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// Config is what a Plane works with; a zero Port takes the default.
type Config struct {
	// Port is the UDP port of the VXLAN device (4789, as IANA has assigned it).
	Port int
	// VTEP is this host's.
	VTEP netip.Addr
	// HostNS is the host's namespace. It stays the caller's to close.
	HostNS netns.NsHandle
	// Senders keeps strangers out of the tunnel.
	Senders Senders
	// StackOnly has the host forward all packets itself: no connection is led past that.
	StackOnly bool
	Board     *health.Board
	Log       *logrus.Entry
}

// Senders say which VTEPs may deliver into a tunnel.
type Senders interface {
	// Allow has the VTEPs, which are sorted, and no others deliver to vni.
	Allow(vni uint32, vteps []netip.Addr) error
	// Admit has the VTEPs deliver to vni too, beside who may already.
	Admit(vni uint32, vteps []netip.Addr) error
	// Forget ends what Allow began.
	Forget(vni uint32) error
}

// Plane realises routed networks. Its methods come one at a time; Watch runs beside.
type Plane struct {
	Config
	kernel   *nl.Handle
	gateways *gateway.Gateways
	filters  portfilter.Filters // of the containers' ports
	fast     *fastpath.Paths

	mu       sync.Mutex // Watch looks at what follows too
	networks map[string]*network
	table    table
	// open is the tunnel of networks that are not encrypted, sealed of those that are.
	open, sealed *tunnel
	// fresh says that table and tunnels were read since Invalidate.
	fresh bool
	// settled says that all networks of this host were applied once: the senders of all
	// are known.
	settled bool
	// links are those that a VTEP was found on, 0 for none; mtus are theirs, 0 where no
	// connection is led to them past the stack.
	links map[netip.Addr]int32
	mtus  map[int32]int
}

// network is one that was applied.
type network struct {
	segment fabric.Segment // as applied last, without its routes
	bridge  int32
	ports   map[int]portfilter.Port // by the index of the host's end, as filtered last
	// planned are the ways to each prefix, targets where that leads to here.
	planned map[netip.Prefix]fabric.Way
	targets map[netip.Prefix]target
	// here are the ways to its containers on this host.
	here map[netip.Prefix]fastpath.Way
	// trusted says that the kernel has the network's objects as they were written,
	// right that they were once: what is wrong then was changed.
	trusted, right bool
}

// mark begins the alias of links that are ours: `ip link` shows it.
const mark = "causeway routed "

// New opens the host's namespace; nothing is changed before Apply.
func New(config Config) (*Plane, error) {
	config.Port = cmp.Or(config.Port, 4789)
	kernel, err := nl.Open(config.HostNS)
	if err != nil {
		return nil, fmt.Errorf("routed: %w", err)
	}
	return &Plane{
		Config: config, kernel: kernel,
		gateways: gateway.New(gateway.Config{Mode: fabric.ModeRouted, Host: kernel, Board: config.Board, Log: config.Log}),
		networks: make(map[string]*network), table: newTable(), links: make(map[netip.Addr]int32), mtus: make(map[int32]int),
		fast: fastpath.New(kernel, config.Log),
		open: newTunnel(fabric.RoutedDevice, fabric.RoutedVNI), sealed: newTunnel(fabric.SealedDevice, fabric.SealedVNI),
	}, nil
}

// Close closes the sockets and changes nothing in the kernel: traffic goes on.
func (p *Plane) Close() error {
	return errors.Join(p.kernel.Close(), p.filters.Close(), p.fast.Close())
}

// Apply makes the kernel match one segment; idempotent. It returns how many objects
// it found wrong that had been right.
func (p *Plane) Apply(ctx context.Context, want fabric.Segment) (repaired int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.networks[want.Network.ID]
	if n == nil {
		n = &network{targets: make(map[netip.Prefix]target), ports: make(map[int]portfilter.Port), here: make(map[netip.Prefix]fastpath.Way)}
		p.networks[want.Network.ID] = n
	}
	repaired, err = p.apply(ctx, n, want)
	if !n.right {
		repaired = 0
	}
	n.trusted = err == nil || errors.Is(err, fabric.ErrPartial)
	n.right = n.right || n.trusted
	return repaired, wrap(want.Network, err)
}

func (p *Plane) apply(ctx context.Context, n *network, want fabric.Segment) (repaired int, err error) {
	if repaired, err = p.readAll(); err != nil {
		return repaired, err
	}
	if !n.trusted || !sameShape(n.segment, want) {
		count, err := p.repairNetwork(ctx, n, want)
		if repaired += count; err != nil {
			return repaired, err
		}
	}
	n.planned = plannedRoutes(want)
	n.segment = want
	n.segment.Routes, n.segment.Remote = nil, nil
	if err := p.allowSenders(); err != nil {
		return repaired, err
	}
	if err := p.pairsOf(want.Network.ID).Prune(want.Local); err != nil {
		return repaired, err
	}
	var failed nl.Failures
	failed.Add(p.leadHere(n))
	repaired += p.writeAll(n, &failed)
	return repaired, failed.Err()
}

// sameShape says that a segment's bridge needs nothing that it had not before.
func sameShape(have, want fabric.Segment) bool {
	return have.MTU == want.MTU && have.TunnelMTU == want.TunnelMTU && have.VTEP == want.VTEP &&
		have.Network.Internal == want.Network.Internal
}

// Update writes the routes of what changed.
func (p *Plane) Update(ctx context.Context, d fabric.Delta) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	n := p.networks[d.Network.ID]
	if n == nil || !n.trusted || !sameShape(n.segment, d.Segment) {
		return wrap(d.Network, errors.New("it is to be read back"))
	}
	before := n.segment
	n.segment = d.Segment
	d.MergeRoutes(n.planned)
	var failed nl.Failures
	if !slices.Equal(before.Senders(), d.Senders()) {
		failed.Add(p.allowSenders())
	}
	if anyGone(before.Local, d.Local) {
		failed.Add(errors.Join(p.leadHere(n), p.pairsOf(d.Network.ID).Prune(d.Local)))
	}
	p.writeDelta(n, d, &failed)
	n.trusted = !failed.Doubt
	return wrap(d.Network, failed.Err())
}

// anyGone says whether now lacks an endpoint that then had.
func anyGone(then, now []fabric.Endpoint) bool {
	here := make(map[string]bool, len(now))
	for _, endpoint := range now {
		here[endpoint.ID] = true
	}
	for _, endpoint := range then {
		if !here[endpoint.ID] {
			return true
		}
	}
	return false
}

// Plug makes the endpoint's pair: one end is a port of the bridge, the other is for
// Docker to take.
func (p *Plane) Plug(_ context.Context, want fabric.Segment, endpoint fabric.Endpoint) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.networks[want.Network.ID]
	if n == nil {
		return "", wrap(want.Network, errors.New("not applied yet"))
	}
	pair := nl.Pair{
		Endpoint: endpoint.ID, MAC: endpoint.MAC, MTU: want.MTU,
		Alias: p.pairsOf(want.Network.ID).Mark + endpoint.ID, Master: int(n.bridge),
	}
	end, err := pair.Ensure(p.kernel, p.kernel)
	port := portfilter.Port{End: end, Rule: portfilter.RuleOf(want.Network, endpoint)}
	if err == nil {
		err = errors.Join(p.filters.Put(p.kernel, port), p.kernel.StopLearning(end), p.bindMAC(end, endpoint.MAC))
	}
	if err != nil {
		n.trusted = false
		return "", wrap(want.Network, err)
	}
	n.ports[end.Attrs().Index] = port
	if err := p.leadHere(n); err != nil {
		return "", wrap(want.Network, err)
	}
	return nl.ContainerEnd(endpoint.ID), nil
}

// Drops counts the frames that were dropped at the ports of this host's containers, by
// endpoint ID.
func (p *Plane) Drops(context.Context) (map[string]fabric.Drops, error) {
	drops, err := p.filters.Drops()
	if err != nil {
		return nil, fmt.Errorf("routed: %w", err)
	}
	return drops, nil
}

// pairsOf are the pairs of a network; of all for the empty one.
func (p *Plane) pairsOf(network string) nl.Pairs {
	pairs := nl.Pairs{Host: p.kernel, Home: p.kernel, Mark: mark + "endpoint "}
	if network != "" {
		pairs.Mark += network + "/"
	}
	return pairs
}

// Gateways gives the addresses that containers may have their default route to.
func (p *Plane) Gateways(want fabric.Segment) []netip.Addr {
	if want.Network.Internal || want.Network.DockerGateway {
		return nil
	}
	return p.gateways.Up(want.Network.ID)
}

// Alive tells which local endpoints have a container.
func (p *Plane) Alive(ctx context.Context, want fabric.Segment) (map[string]bool, error) {
	alive, err := p.pairsOf(want.Network.ID).Alive(ctx, want.Local)
	return alive, wrap(want.Network, err)
}

// Invalidate makes the next Apply of each segment read the kernel back. What all
// networks share is read once.
func (p *Plane) Invalidate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh = false
	p.gateways.Invalidate()
	for _, n := range p.networks {
		n.trusted = false
	}
}

func wrap(network fabric.Network, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("routed: network %s: %w", network.Label(), err)
}
