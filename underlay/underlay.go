// Package underlay is the data plane that puts containers onto the host's own
// network: a bridge takes the host's NIC in, and each container's veth is
// another port of it.
//
// A frame travels so. A container sends to its router or to a machine nearby:
// the bridge forwards the frame, unchanged, out of the NIC; the answer comes in
// through the NIC and is forwarded to the container's port, or up to the host if
// it bears the host's MAC. There is no tunnel, no NAT and no route of ours.
//
// For that the NIC has to hand over to the bridge all that makes it the host's:
// MAC, addresses, routes, neighbours (move.go). They are carried as the kernel's
// own messages (message.go, carry.go), and the intent is in a journal before the
// first write (journal.go), so that a host that is killed on the way finishes at
// the next start, and never stays without its addresses. After the last network
// of a NIC all goes back the same way.
//
// A bridge that a user made (-o bridge=… without parent) is used as it is.
package underlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
)

// Config is what a Plane works with. All fields but InUse are required.
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
}

// Plane realises underlay networks. It is not for concurrent use, but for Probe.
type Plane struct {
	kernel   *kernel
	journal  journal
	firewall firewall
	log      *logrus.Entry
	inUse    func(ctx context.Context, device string) string
	boot     string             // of the running kernel
	records  map[string]*record // by bridge
	// applied are the segments as Apply last made them, by network; empty when distrusted.
	applied map[string]fabric.Segment
	// unheard are the local endpoints that were plugged and not announced since
	// they came up, with their networks.
	unheard map[string]string
	// before are the networks that were right once: what is wrong there is mended.
	before map[string]bool
}

// New reads the journal. It changes nothing: Recover does.
func New(config Config) (*Plane, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("underlay: read the kernel's boot ID: %w", err)
	}
	j := journal(config.Journal)
	records, err := j.read(config.Log)
	if err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	k, err := openKernel(config.HostNS)
	if err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	return &Plane{
		kernel: k, journal: j, firewall: firewall{k.NS()}, log: config.Log, inUse: config.InUse,
		boot: strings.TrimSpace(string(boot)), records: records,
		applied: make(map[string]fabric.Segment), unheard: make(map[string]string), before: make(map[string]bool),
	}, nil
}

// Close ends the plane and leaves the kernel as it is.
func (p *Plane) Close() error { return p.kernel.close() }

// Recover finishes the moves that broke off, and makes a bridge again that went
// with the host's addresses. It needs no records of the cluster, and is called
// before the first is read: the store may lie behind the very NIC that was on
// its way.
func (p *Plane) Recover(ctx context.Context) error {
	errs := []error{p.adopt()}
	for _, name := range slices.Sorted(maps.Keys(p.records)) {
		r := p.records[name]
		lost, err := p.isBare(r)
		errs = append(errs, err)
		if r.Phase == taken && !lost {
			continue
		}
		p.log.Infof("bridge %s was left in the state %s of %s: finish", r.Bridge, r.Phase, r.Parent)
		if r.Phase == returning {
			errs = append(errs, p.release(r))
		} else {
			errs = append(errs, p.claim(ctx, r))
		}
	}
	return wrap(errors.Join(errs...))
}

// Apply makes the segment's bridge and has its local endpoints' links, and no
// others, in it.
func (p *Plane) Apply(ctx context.Context, segment fabric.Segment) (mended int, err error) {
	id := segment.Network.ID
	done, trusted := p.applied[id]
	trusted = trusted && bridgeName(done.Network) == bridgeName(segment.Network)
	delete(p.applied, id)
	if !trusted {
		if mended, err = p.realise(ctx, segment); err != nil {
			return 0, wrap(err)
		}
	}
	if !trusted || anyGone(done, segment) {
		local := endpointsOf(segment)
		maps.DeleteFunc(p.unheard, func(endpoint, network string) bool { return network == id && !local[endpoint] })
		err := p.unplug(func(network, endpoint string) bool { return network != id || local[endpoint] })
		if err != nil {
			return 0, wrap(err)
		}
	}
	if !p.before[id] {
		mended = 0
	}
	p.applied[id], p.before[id] = segment, true
	return mended, nil
}

// realise reads the kernel, and counts what it set right.
func (p *Plane) realise(ctx context.Context, segment fabric.Segment) (changed int, err error) {
	changed, err = p.bridgeFor(ctx, segment.Network)
	if err != nil {
		return 0, err
	}
	moved, err := p.joinPorts(segment)
	if err != nil {
		return 0, err
	}
	opened, err := p.firewall.open(ctx, bridgeName(segment.Network))
	return changed + moved + opened, err
}

// bridgeFor has the network's bridge ready, and counts what it had to do.
func (p *Plane) bridgeFor(ctx context.Context, network fabric.Network) (changed int, err error) {
	name := bridgeName(network)
	r, ours := p.records[name]
	if network.Parent == "" && !ours {
		_, err := p.foreignBridge(name)
		return 0, err
	}
	if network.Parent != "" && (!ours || !r.isOf(network)) {
		if err := p.check(ctx, network); err != nil {
			return 0, err
		}
		r = &record{Bridge: name, Parent: network.Parent, VLAN: network.VLAN}
	}
	if r.Phase == taken {
		if fine, err := p.inPlace(r); fine || err != nil {
			return 0, err
		}
	}
	return 1, p.claim(ctx, r)
}

// Prune gives back the NICs, and removes the links, that keep does not need.
func (p *Plane) Prune(ctx context.Context, keep []fabric.Segment) error {
	bridges, endpoints := make(map[string]bool), make(map[string]map[string]bool)
	for _, segment := range keep {
		bridges[bridgeName(segment.Network)] = true
		endpoints[segment.Network.ID] = endpointsOf(segment)
	}
	errs := []error{
		p.unplug(func(network, endpoint string) bool { return endpoints[network][endpoint] }),
		p.firewall.closeBut(ctx, bridges),
	}
	for _, name := range slices.Sorted(maps.Keys(p.records)) {
		if !bridges[name] {
			errs = append(errs, p.release(p.records[name]))
		}
	}
	maps.DeleteFunc(p.unheard, func(endpoint, network string) bool { return !endpoints[network][endpoint] })
	maps.DeleteFunc(p.applied, func(id string, _ fabric.Segment) bool { return endpoints[id] == nil })
	maps.DeleteFunc(p.before, func(id string, _ bool) bool { return endpoints[id] == nil })
	return wrap(errors.Join(errs...))
}

// Invalidate makes the next Apply of each segment read the kernel back.
func (p *Plane) Invalidate() { clear(p.applied) }

// Drifted says that a bridge of ours is gone or has lost its NIC, that the
// firewall was flushed, or that a container came up and its neighbours have to be told.
func (p *Plane) Drifted(ctx context.Context) bool {
	for _, r := range p.records {
		if fine, err := p.inPlace(r); err == nil && !fine {
			return true
		}
	}
	bridges := make(map[string]bool)
	for _, segment := range p.applied {
		bridges[bridgeName(segment.Network)] = true
	}
	return p.waiting() || !p.firewall.isOpen(ctx, bridges)
}

// note writes the record, and holds it from then on.
func (p *Plane) note(r *record) error {
	if err := p.kernel.do(fmt.Sprintf("note %s %s", r.Phase, r.Parent), func() error { return p.journal.write(r) }); err != nil {
		return err
	}
	p.records[r.Bridge] = r
	return nil
}

func (p *Plane) forget(r *record) error {
	if err := p.kernel.do("forget bridge "+r.Bridge, func() error { return p.journal.erase(r) }); err != nil {
		return err
	}
	delete(p.records, r.Bridge)
	return nil
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
