// Package vxlan is the data plane of mode=vxlan: on each host that has a
// container on a network, a network namespace for that network alone, with a
// bridge and a VXLAN device (RFC 7348) in it.
//
//	host's namespace          causeway-<hash of the network>      container
//	UDP socket :4789 ───────── vxlan0 ── br0 ── cw<hash> ───────── eth0
//
// The namespace keeps equal subnets apart, and keeps the host's firewall
// (Docker's FORWARD DROP, br_netfilter) away from what containers say to each
// other. The VXLAN device belongs to the host's namespace from its birth: its
// UDP socket is there, and tunnelled packets take the host's routes.
//
// A packet travels so. A container asks for the MAC of another by ARP or ND.
// The bridge knows the answer, a permanent neighbour on br0, and gives it in
// the other's place (neigh_suppress): the question is not flooded through the
// tunnel. The frame that follows finds its MAC in the bridge's FDB, behind
// vxlan0, and there in vxlan0's own FDB, which says the VTEP. What is for all
// (broadcast, multicast) or for an address that only the containers know (a
// VRRP address, IPv6 link-local) goes once to each host that has endpoints on
// the network: the FDB's entries for the MAC that is all zero. Nothing is
// learned from the tunnel.
//
// All of it is derived from a [fabric.Segment]: [Plane.Apply] writes what is
// different, and reads the kernel back when it has a reason not to know it.
package vxlan

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
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
	Log    *logrus.Entry
}

// Plane realises segments on this host. It is for one goroutine.
type Plane struct {
	Config
	host     *nl.Handle
	segments map[string]*segment // by network ID
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
	return &Plane{Config: config, host: host, segments: make(map[string]*segment)}, nil
}

// Close lets go of the kernel and changes nothing in it: traffic goes on.
func (p *Plane) Close() error {
	errs := []error{p.host.Close()}
	for _, s := range p.segments {
		errs = append(errs, s.Close())
	}
	clear(p.segments)
	return errors.Join(errs...)
}

// Apply makes one segment so; idempotent. It returns how many entries it found
// wrong in the kernel that had been right.
func (p *Plane) Apply(ctx context.Context, want fabric.Segment) (mended int, err error) {
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
	mended, err = p.realise(s, want)
	if err != nil {
		s.trusted = false
		return mended, fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	s.applied, s.trusted = shapeOf(want), true
	return mended, nil
}

func (p *Plane) realise(s *segment, want fabric.Segment) (mended int, err error) {
	if !s.trusted || s.applied != shapeOf(want) {
		if mended, err = p.readBack(s, want); err != nil {
			return mended, err
		}
	}
	if err := s.removeOthers(want.Local); err != nil {
		return mended, err
	}
	return mended, s.write(entriesOf(want))
}

// Plug makes the pair of a local endpoint, whose segment was applied before, and
// returns the name of the end that Docker takes; idempotent.
func (p *Plane) Plug(ctx context.Context, want fabric.Segment, endpoint fabric.Endpoint) (link string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s, ok := p.segments[want.Network.ID]
	if !ok {
		return "", fmt.Errorf("vxlan: network %s: not applied yet", nameOf(want.Network))
	}
	if _, err := pairOf(want, endpoint.ID, endpoint.MAC, s.bridge).Ensure(p.host, s.Handle); err != nil {
		s.trusted = false
		return "", fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	s.ends[nl.HostEnd(endpoint.ID)] = true
	return nl.ContainerEnd(endpoint.ID), nil
}

func pairOf(want fabric.Segment, endpoint string, mac fabric.MAC, bridge int) nl.Pair {
	return nl.Pair{Endpoint: endpoint, MAC: mac, MTU: want.MTU, Alias: marker(want.Network.ID), Master: bridge}
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
	alive, err := p.pairs(s).Alive(ctx, want.Local)
	if err != nil {
		return nil, fmt.Errorf("vxlan: network %s: %w", nameOf(want.Network), err)
	}
	return alive, nil
}

// pairs are those of a segment: what is in its namespace is ours.
func (p *Plane) pairs(s *segment) nl.Pairs { return nl.Pairs{Host: p.host, Home: s.Handle} }

// Watch calls drifted when the kernel was changed by others.
func (p *Plane) Watch(ctx context.Context, _ func(network string)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Invalidate makes the next Apply of each segment read the kernel back.
func (p *Plane) Invalidate() {
	for _, s := range p.segments {
		s.trusted = false
	}
}

// Drifted says that a namespace, a bridge or a VXLAN device is gone or down. It
// costs two short requests for each segment.
func (p *Plane) Drifted(context.Context) bool {
	for _, s := range p.segments {
		if s.trusted && !s.intact() {
			return true
		}
	}
	return false
}

func nameOf(network fabric.Network) string { return cmp.Or(network.Name, network.ID) }
