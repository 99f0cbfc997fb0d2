// Package vxlan is the data plane of mode=vxlan: on each host that has a
// container on a network, a network namespace for that network alone, with a
// bridge and a VXLAN device (RFC 7348) in it.
//
//	host's namespace          causeway-<hash of the network>      container
//	UDP socket :4789 ───────── vxlan0 ── br0 ── cw<hash> ───────── eth0
//
// The namespace keeps equal subnets apart, and keeps the host's firewall
// (Docker's FORWARD DROP, br_netfilter) away from traffic between containers. The
// VXLAN device is created in the host's namespace: its UDP socket stays there, and
// tunnelled packets take the host's routes.
//
// A packet's path: a container asks for the MAC of another by ARP or ND. The
// bridge knows the answer, a permanent neighbour on br0, and replies in the
// other's place (neigh_suppress): the question is not flooded through the
// tunnel. The frame that follows finds its MAC in the bridge's FDB: behind the
// port of a local container, or behind vxlan0, whose own FDB has the VTEP.
// Broadcast, multicast and unknown unicast go to all local ports, and once to
// each host that has endpoints on the network: vxlan0's FDB entries for the MAC
// that is all zero.
//
// Nothing is learned, neither from the tunnel nor from containers: the records
// say where each MAC is. So no frame moves another container's MAC, and no
// number of source MACs fills a table. The price: a MAC that is in no record (a
// VRRP router's, RFC 5798 §7.3, with -o allow=, or that of a machine inside a
// container, with -o spoofing=allow) is unknown unicast for ever, and its frames go to
// all containers of the network, as on a hub. Such MACs may move between hosts at any
// time without a word to us, so flooding stays on. IPv6 link-local addresses need none of it: their
// frames go to the container's own MAC.
//
// Who may deliver into the network is checked before the device: the VTEPs that frames
// are flooded to and, while a host's key is rotated, its other one ([Senders]).
//
// A container sends with its own MAC and addresses only: what leaves it is judged at the
// host's end of its pair, before br0 (internal/portfilter).
//
// All of it is derived from a [fabric.Segment]: [Plane.Apply] writes what is
// different, and reads the kernel back first where it may have been changed.
// [Plane.Watch] hears from the kernel's notifications what others change.
package vxlan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// Config is what a Plane works with; zero fields take the default.
type Config struct {
	// Port is the UDP port of the tunnels (4789, as IANA has assigned it).
	Port int
	// Dir is where the namespaces are named (/run/netns, where ip-netns(8) looks).
	Dir string
	// EngineDir is where Docker names the namespaces of its own (/run/docker/netns).
	EngineDir string
	// HostNS is the host's namespace (the caller's). It stays the caller's to close.
	HostNS netns.NsHandle
	// Senders keeps strangers out of the tunnels.
	Senders Senders
	// Board is told where a network's gateway can't be here; nil: nobody is.
	Board *health.Board
	Log   *logrus.Entry
}

// Senders say which VTEPs may deliver into a network.
type Senders interface {
	// Allow has the VTEPs, which are sorted, and no others deliver into the network of vni.
	Allow(vni uint32, vteps []netip.Addr) error
	// Forget ends what Allow began.
	Forget(vni uint32) error
}

// Plane reconciles segments on this host. It is for one goroutine; Watch runs beside.
type Plane struct {
	Config
	host     *nl.Handle
	filters  portfilter.Filters  // of the containers' ports
	segments map[string]*segment // by network ID; changed under watcher.mu
	watcher  watcher
	gateways *gateway.Gateways
}

// New opens the host's namespace; nothing is changed before Apply.
func New(config Config) (*Plane, error) {
	config.Port = cmp.Or(config.Port, 4789)
	config.Dir = cmp.Or(config.Dir, "/run/netns")
	config.EngineDir = cmp.Or(config.EngineDir, "/run/docker/netns")
	if config.HostNS == 0 {
		config.HostNS = netns.None()
	}
	host, err := nl.Open(config.HostNS)
	if err != nil {
		return nil, fmt.Errorf("vxlan: %w", err)
	}
	return &Plane{
		Config: config, host: host, segments: make(map[string]*segment),
		gateways: gateway.New(gateway.Config{Mode: fabric.ModeVXLAN, Host: host, Board: config.Board, Log: config.Log}),
	}, nil
}

// Close closes the sockets and changes nothing in the kernel: traffic goes on.
func (p *Plane) Close() error {
	errs := []error{p.host.Close(), p.filters.Close()}
	for id, s := range maps.Clone(p.segments) {
		p.forget(id)
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Apply makes the kernel match one segment; idempotent. It returns how many
// objects it found wrong in the kernel that had been right.
func (p *Plane) Apply(ctx context.Context, want fabric.Segment) (repaired int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := check(want); err != nil {
		return 0, fmt.Errorf("vxlan: %w", err)
	}
	s, err := p.open(want.Network.ID)
	if err != nil {
		return 0, fmt.Errorf("vxlan: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	repaired, err = p.reconcile(ctx, s, want)
	if err != nil {
		return repaired, fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	return repaired, nil
}

func (p *Plane) reconcile(ctx context.Context, s *segment, want fabric.Segment) (repaired int, err error) {
	// Before the device is there: what comes in is checked from the first frame.
	if err := p.Senders.Allow(want.Network.VNI, want.Senders()); err != nil {
		s.trusted, s.settled = false, false
		return 0, err
	}
	if !s.trusted || s.applied != shapeOf(want) {
		s.trusted, s.settled = false, false
		if repaired, err = p.readBack(ctx, s, want); err != nil && !errors.Is(err, fabric.ErrPartial) {
			return repaired, err
		}
		s.applied = shapeOf(want)
	}
	want.Local = s.withGateway(want.Local)
	err = errors.Join(err, s.pruneEnds(want.Local))
	failed := s.write(s.entriesOf(want))
	s.flood = want.Flood
	s.trusted = err == nil && !failed.Doubt
	s.settled = s.trusted
	return repaired, errors.Join(err, failed.Err())
}

// Update writes the entries of what changed. Entries that others changed stay so until
// the next Apply.
func (p *Plane) Update(ctx context.Context, d fabric.Delta) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, ok := p.segments[d.Network.ID]
	if !ok {
		return fmt.Errorf("vxlan: network %s: not applied yet", nameOf(d.Network))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled || s.applied != shapeOf(d.Segment) {
		return fmt.Errorf("vxlan: network %s is to be read back", nameOf(d.Network))
	}
	d.Local = s.withGateway(d.Local)
	err := errors.Join(p.Senders.Allow(d.Network.VNI, d.Senders()), s.pruneEnds(d.Local))
	failed := s.writeDelta(d)
	s.flood = d.Flood
	if err = errors.Join(err, failed.Err()); err != nil {
		s.trusted, s.settled = false, false
		return fmt.Errorf("vxlan: network %s: %w", nameOf(d.Network), err)
	}
	return nil
}

// Plug creates the pair of a local endpoint, whose segment was applied before, and
// returns the name of the end that Docker takes; idempotent.
func (p *Plane) Plug(ctx context.Context, want fabric.Segment, endpoint fabric.Endpoint) (link string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s, ok := p.segments[want.Network.ID]
	if !ok {
		return "", fmt.Errorf("vxlan: network %s: not applied yet", nameOf(want.Network))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.plug(s, want, endpoint); err != nil {
		s.trusted = false
		return "", fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	return nl.ContainerEnd(endpoint.ID), nil
}

// plug creates the pair, a port of br0, filters it, and says in the bridge's FDB that
// the endpoint's MAC is behind it.
func (p *Plane) plug(s *segment, want fabric.Segment, endpoint fabric.Endpoint) error {
	pair := nl.Pair{
		Endpoint: endpoint.ID, MAC: endpoint.MAC, MTU: want.MTU,
		Alias: marker(want.Network.ID), Master: int(s.bridge),
	}
	end, err := pair.Ensure(p.host, s.Handle)
	if err != nil {
		return err
	}
	name, index := end.Attrs().Name, int32(end.Attrs().Index)
	if s.ends[name] != index {
		s.forgetEnd(name) // a pair that was recreated
		s.ends[name] = index
	}
	if err := s.StopLearning(end); err != nil {
		return err
	}
	if err := s.filter(want.Network, endpoint, end); err != nil {
		return err
	}
	return s.put(slot{table: ports, mac: endpoint.MAC}, target{port: index})
}

// Alive tells which of the segment's local endpoints have a container.
func (p *Plane) Alive(ctx context.Context, want fabric.Segment) (map[string]bool, error) {
	s, err := p.find(want.Network.ID)
	if errors.Is(err, nl.ErrNotFound) {
		return map[string]bool{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vxlan: %w", err)
	}
	alive, err := nl.Pairs{Host: p.host, Home: s.Handle}.Alive(ctx, want.Local)
	if err != nil {
		return nil, fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	return alive, nil
}

// Invalidate makes the next Apply of each segment read the kernel back.
func (p *Plane) Invalidate() {
	p.gateways.Invalidate()
	for _, s := range p.segments {
		s.invalidate()
	}
}

func (s *segment) invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted = false
}

func nameOf(network fabric.Network) string { return cmp.Or(network.Name, network.ID) }
