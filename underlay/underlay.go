// Package underlay is the data plane that puts containers onto the host's own
// network: a bridge has the host's NIC as a port, and each container's veth is
// another port of it.
//
// A packet's path: a container sends to its router or to a machine nearby; the
// bridge forwards the frame, unchanged, out of the NIC; the answer comes in
// through the NIC and is forwarded to the container's port, or up to the host if
// it bears the host's MAC. What leaves a container is judged first, at the host's end of
// its pair (internal/portfilter): it has its own MAC and addresses only. There is no tunnel, no NAT and no route of ours.
//
// A network's path: Check refuses a parent that cannot be used, and tries the
// move (check.go, confirm.go); Apply has nicmove move the NIC into the bridge,
// puts the containers' links into it (port.go) and lets their frames pass the
// host's firewall (internal/forward); Watch tells what others changed (watch.go);
// Prune moves the NIC back after its last network.
//
// A bridge that a user made (-o bridge=… without parent) is used as it is.
package underlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/forward"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/portfilter"
	"github.com/causeway-net/causeway/nicmove"
)

// Config is what a Plane works with. All fields but InUse, Confirm and Boot are required.
type Config struct {
	// HostNS is the namespace of the host's NICs; it stays the caller's to close.
	HostNS netns.NsHandle
	// Journal is a folder for what must be known after a crash. It must outlive
	// the process, not the kernel.
	Journal string
	Log     *logrus.Entry
	// InUse says which Open vSwitch bridge has the device, if one has: the kernel
	// does not know of the bridges of the datapath in user space.
	InUse func(ctx context.Context, device string) string
	// Confirm are what must answer after a NIC was moved, if it did before, beside
	// the gateways that the NIC leads to.
	Confirm []nicmove.Question
	// Boot is the ID of the running kernel; empty for what the kernel says.
	Boot string
}

// Plane realises underlay networks. Probe and Watch may run beside its other
// methods, which come one at a time.
type Plane struct {
	Config
	kernel  *nl.Handle
	rules   forward.Rules
	filters portfilter.Filters // of the containers' ports
	touched touched

	mu    sync.Mutex // Watch looks at what follows too
	mover *nicmove.Mover
	// applied are the segments as Apply last made them, by network, as far as
	// they are trusted.
	applied map[string]fabric.Segment
	// unheard are the local endpoints that were plugged and not announced since
	// they came up, with their networks.
	unheard map[string]string
	// right are the networks that were right once: what is wrong there was changed.
	right map[string]bool
}

// mark begins the alias of links that are ours: `ip link` shows it. Our firewall
// rules have it as their comment.
const mark = "causeway underlay "

// New reads the journal. It changes nothing: Recover does.
func New(config Config) (*Plane, error) {
	kernel, err := nl.Open(config.HostNS)
	if err != nil {
		return nil, wrap(err)
	}
	p := &Plane{
		Config: config, kernel: kernel, rules: forward.Rules{NS: kernel.NS(), Comment: mark},
		applied: make(map[string]fabric.Segment), unheard: make(map[string]string), right: make(map[string]bool),
	}
	p.mover, err = nicmove.Open(nicmove.Config{
		NS: kernel.NS(), Journal: config.Journal, Mark: mark, Questions: p.questions, Boot: config.Boot, Log: config.Log,
	})
	if err != nil {
		return nil, wrap(errors.Join(err, kernel.Close()))
	}
	return p, nil
}

// Close ends the plane and leaves the kernel as it is.
func (p *Plane) Close() error {
	return errors.Join(p.mover.Close(), p.kernel.Close(), p.filters.Close())
}

// Recover finishes the moves that were broken off. It needs no records of the
// cluster, and comes before the first is read: the store may be reached through
// the very NIC that was being moved.
func (p *Plane) Recover(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return wrap(p.mover.Recover(ctx))
}

// Apply makes the segment's bridge and has its local endpoints' links, and no
// others, in it. It counts what was right before and had to be repaired.
func (p *Plane) Apply(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := segment.Network.ID
	done, trusted := p.applied[id]
	trusted = trusted && bridgeName(done.Network) == bridgeName(segment.Network)
	delete(p.applied, id)
	if !trusted {
		if repaired, err = p.reconcile(ctx, segment); err != nil {
			return 0, wrap(err)
		}
	}
	if !trusted || anyGone(done, segment) {
		local := endpointsOf(segment)
		maps.DeleteFunc(p.unheard, func(endpoint, network string) bool { return network == id && !local[endpoint] })
		if err := p.pairsOf(id).Prune(segment.Local); err != nil {
			return 0, wrap(err)
		}
	}
	if !p.right[id] {
		repaired = 0
	}
	p.applied[id], p.right[id] = segment, true
	return repaired, nil
}

// Update implements [fabric.Dataplane]: Apply looks at no peers.
func (p *Plane) Update(ctx context.Context, delta fabric.Delta) error {
	p.mu.Lock()
	_, trusted := p.applied[delta.Network.ID]
	p.mu.Unlock()
	if !trusted {
		return fmt.Errorf("underlay: network %s is to be read back", delta.Network.Label())
	}
	_, err := p.Apply(ctx, delta.Segment)
	return err
}

// Gateways gives the physical network's routers.
func (p *Plane) Gateways(segment fabric.Segment) []netip.Addr {
	if segment.Network.Internal {
		return nil
	}
	var gateways []netip.Addr
	for _, subnet := range segment.Network.Subnets {
		if subnet.Gateway.IsValid() {
			gateways = append(gateways, subnet.Gateway)
		}
	}
	return gateways
}

// reconcile reads the kernel, and counts what it set right.
func (p *Plane) reconcile(ctx context.Context, segment fabric.Segment) (changed int, err error) {
	changed, err = p.ensureBridge(ctx, segment.Network)
	if err != nil {
		return 0, err
	}
	joined, err := p.joinPorts(segment)
	if err != nil {
		return 0, err
	}
	opened, err := p.rules.Open(ctx, bridgeName(segment.Network))
	return changed + joined + opened, err
}

// ensureBridge has the network's bridge ready, and counts what it had to do.
func (p *Plane) ensureBridge(ctx context.Context, network fabric.Network) (changed int, err error) {
	place := placeOf(network)
	known, ours := p.place(place.Bridge)
	switch {
	case network.Parent == "" && !ours:
		_, err := p.foreignBridge(place.Bridge)
		return 0, err
	case network.Parent == "":
		place = known
	case !ours || !known.SameNIC(place):
		if err := p.check(ctx, network); err != nil {
			return 0, err
		}
	}
	moved, err := p.mover.Ensure(ctx, place, !network.Force)
	if moved {
		changed = 1
	}
	return changed, err
}

// place gives a bridge that is ours.
func (p *Plane) place(bridge string) (place nicmove.Place, ours bool) {
	places := p.mover.Places()
	if i := slices.IndexFunc(places, func(place nicmove.Place) bool { return place.Bridge == bridge }); i >= 0 {
		return places[i], true
	}
	return nicmove.Place{}, false
}

// Prune releases the NICs, and deletes the links, that keep does not need.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	bridges, endpoints := make(map[string]bool), make(map[string]map[string]bool)
	var local []fabric.Endpoint
	for _, segment := range keep {
		bridges[bridgeName(segment.Network)] = true
		endpoints[segment.Network.ID] = endpointsOf(segment)
		local = append(local, segment.Local...)
	}
	errs := []error{p.pairsOf("").Prune(local), p.rules.CloseAllBut(ctx, bridges), p.filters.Retain(keep)}
	for _, place := range p.mover.Places() {
		if !bridges[place.Bridge] {
			errs = append(errs, p.mover.Release(place.Bridge))
		}
	}
	maps.DeleteFunc(p.unheard, func(endpoint, network string) bool { return !endpoints[network][endpoint] })
	maps.DeleteFunc(p.applied, func(id string, _ fabric.Segment) bool { return endpoints[id] == nil })
	maps.DeleteFunc(p.right, func(id string, _ bool) bool { return endpoints[id] == nil })
	return wrap(errors.Join(errs...))
}

// Invalidate makes the next Apply of each segment read the kernel back.
func (p *Plane) Invalidate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.applied)
}

func placeOf(network fabric.Network) nicmove.Place {
	place := nicmove.Place{Bridge: bridgeName(network), Parent: network.Parent, VLAN: network.VLAN}
	if network.VLAN != 0 {
		place.Port = vlanName(network.Parent, network.VLAN)
	}
	return place
}

// bridgeName gives the bridge of a network: the user's, or one that shows the parent.
func bridgeName(network fabric.Network) string {
	name := network.Bridge
	if name == "" {
		name = "cw-" + network.Parent
		if network.VLAN != 0 {
			name = fmt.Sprintf("%s.%d", name, network.VLAN)
		}
		if len(name) > maxName {
			name = fabric.DeviceName("cw-", name)
		}
	}
	return name
}

func vlanName(parent string, tag int) string {
	name := fmt.Sprintf("%s.%d", parent, tag)
	if len(name) > maxName {
		name = fabric.DeviceName("cwv-", name)
	}
	return name
}

const maxName = 15 // IFNAMSIZ less the zero

// endpointsOf gives the IDs of the segment's local endpoints.
func endpointsOf(segment fabric.Segment) map[string]bool {
	ids := make(map[string]bool)
	for _, endpoint := range segment.Local {
		ids[endpoint.ID] = true
	}
	return ids
}

// anyGone says whether now lacks a local endpoint that then had.
func anyGone(then, now fabric.Segment) bool {
	local := endpointsOf(now)
	return slices.ContainsFunc(then.Local, func(e fabric.Endpoint) bool { return !local[e.ID] })
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("underlay: %w", err)
}

// Device names the interface by which a network's bridge is on the LAN.
func Device(network fabric.Network) string {
	if network.VLAN != 0 {
		return vlanName(network.Parent, network.VLAN)
	}
	return network.Parent
}
