package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/vswitch"
	"github.com/causeway-net/causeway/internal/vxlanport"
)

// Config configures a Plane; the default of a field is in brackets.
type Config struct {
	// Bridge is created if it is not there ("causeway"). One that is there already
	// keeps its settings and all flows and ports that are not ours.
	Bridge string
	// Datapath is "system" (the kernel's), "netdev" (userspace) or empty: the
	// kernel's if the kernel has it.
	Datapath string
	// VXLANPort is the UDP port of vxlan tunnels (8472); all hosts must have the same.
	VXLANPort uint16
	// SealedPort is that of encrypted networks, which are devices of the kernel (4789).
	SealedPort uint16
	// Senders keeps strangers out of encrypted networks.
	Senders vxlanport.Senders
	// VTEP is this host's, so that Check knows whether tunnels can leave from it.
	VTEP netip.Addr
	// RunDir has the daemons' sockets (/run/openvswitch).
	RunDir string
	// HostNS is the host's network namespace; netns.None() is the process's own.
	// It stays the caller's to close.
	HostNS netns.NsHandle
	// Exec runs the commands; nil runs the real ones.
	Exec vswitch.Exec
	// Board is told where a network's gateway can't be here; nil: nobody is.
	Board *health.Board
	Log   *logrus.Entry
}

// Plane applies the segments of mode=ovs. It is for one goroutine.
type Plane struct {
	Config
	vswitch *vswitch.Switch
	links   links

	neighbours *neighbours // of the userspace datapath
	activity   *activity

	have  *inventory // nil: to be read
	known map[string]programme

	devices  *vxlanport.Ports // of encrypted networks
	gateways *gateway.Gateways
	places   map[string]fabric.Endpoint // of the gateways on this host, by network
}

// New returns a Plane. It does not touch the switch, which need not run yet.
func New(config Config) (*Plane, error) {
	config.Bridge = cmp.Or(config.Bridge, "causeway")
	config.VXLANPort = cmp.Or(config.VXLANPort, 8472)
	config.RunDir = cmp.Or(config.RunDir, "/run/openvswitch")
	switch config.Datapath {
	case "system", "netdev":
	case "":
		config.Datapath = "netdev"
		if kernelDatapath() {
			config.Datapath = "system"
		}
	default:
		return nil, fmt.Errorf("ovs: datapath %q is not known; known are system, netdev", config.Datapath)
	}
	links, err := openLinks(config.HostNS)
	if err != nil {
		return nil, fmt.Errorf("ovs: %w", err)
	}
	plane := &Plane{
		Config: config, vswitch: vswitch.New(config.RunDir, config.Bridge, config.Exec), links: links,
		activity: newActivity(), known: map[string]programme{}, places: map[string]fabric.Endpoint{},
		gateways: gateway.New(gateway.Config{Mode: fabric.ModeOVS, Host: links.Handle, Board: config.Board, Log: config.Log}),
	}
	plane.neighbours = newNeighbours(plane)
	plane.devices = vxlanport.New(vxlanport.Config{
		Host: links.Handle, Port: int(config.SealedPort), Senders: config.Senders, Guard: plane.guard, Log: config.Log,
	})
	return plane, nil
}

// Close closes the netlink socket; bridge, ports and flows stay.
func (p *Plane) Close() error { return p.links.Close() }

// Check says what is missing here for a network to work.
func (p *Plane) Check(ctx context.Context, network fabric.Network) error {
	if err := p.check(ctx, network); err != nil {
		return fmt.Errorf("ovs: %w", err)
	}
	return nil
}

func (p *Plane) check(ctx context.Context, network fabric.Network) error {
	if kinds := []string{"vxlan", "geneve", "gre"}; !slices.Contains(kinds, kindOf(network)) {
		return fmt.Errorf("tunnel %q is not known; known are vxlan, geneve, gre", network.Tunnel)
	}
	if err := p.missing(ctx); err != nil {
		return err
	}
	rows, err := p.vswitch.Interfaces(ctx)
	if err != nil || !p.VTEP.IsValid() {
		return err
	}
	have := inventory{internal: map[string]bool{}}
	for _, row := range rows {
		have.sort(row, false)
	}
	return p.leaves(network, p.VTEP, have.internal)
}

// missing says why the switch cannot be asked now. One that does not answer is not
// even dialled: each attempt would stay in its sockets' queues.
func (p *Plane) missing(ctx context.Context) error {
	if p.vswitch.Unresponsive() {
		return vswitch.ErrUnresponsive
	}
	return p.vswitch.Missing(ctx)
}

// leaves says why network's tunnels cannot leave from vtep: the kernel has no datapath, or
// the userspace one is to send them, which it does only through a bridge of its
// own. The devices of bridges are internal. The kernel sends those of encrypted networks.
func (p *Plane) leaves(network fabric.Network, vtep netip.Addr, internal map[string]bool) error {
	if p.Datapath == "system" {
		if !kernelDatapath() {
			return errors.New("the kernel has no Open vSwitch datapath, which the setting system asks for: load its module openvswitch, or use netdev")
		}
		return nil
	}
	if network.Encrypted {
		return nil
	}
	device, err := p.links.holder(vtep)
	if err != nil {
		return err
	}
	if !internal[device] {
		return fmt.Errorf("the kernel has no Open vSwitch datapath, and the userspace datapath sends tunnels only through"+
			" an Open vSwitch bridge: put %s into one and move the address %s to the bridge", device, vtep)
	}
	return nil
}

// Apply makes the switch match the segment: tunnel port, containers' ports, flows
// and groups. It returns how many of them it repaired.
func (p *Plane) Apply(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	defer p.begin()()
	repaired, err = p.apply(ctx, segment, func() (int, error) {
		if segment.Network.Encrypted {
			if err := p.devices.Write(segment); err != nil {
				return 0, err
			}
		}
		return p.program(ctx, segment.Network.ID, p.programme(segment))
	})
	if err != nil {
		p.invalidate()
		if errors.Is(err, vswitch.ErrUnresponsive) {
			err = vswitch.ErrUnresponsive // one fault, whichever command met it
		}
		return repaired, fmt.Errorf("ovs: %w", err)
	}
	return repaired, nil
}

func (p *Plane) apply(ctx context.Context, segment fabric.Segment, program func() (int, error)) (repaired int, err error) {
	if err := p.missing(ctx); err != nil {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	steps := []func() (int, error){
		func() (int, error) { return p.ensureBridge(ctx, segment.Network, segment.VTEP) },
		func() (int, error) { return p.ensureTunnel(ctx, segment) },
		func() (int, error) { return p.connect(ctx, p.withGateway(segment)) },
		func() (int, error) { return p.ensureGateway(ctx, segment) },
		func() (int, error) { return p.filterPorts() },
		func() (int, error) { return 0, p.label(ctx, segment) },
		func() (int, error) { return 0, p.disconnect(ctx, p.withGateway(segment)) },
		func() (int, error) { return p.resolve(ctx, segment) },
		program,
	}
	var partial error
	for _, step := range steps {
		n, err := step()
		repaired += n
		if partial = errors.Join(partial, err); err != nil && !errors.Is(err, fabric.ErrPartial) {
			return repaired, err
		}
	}
	return repaired, partial
}

func (p *Plane) programme(segment fabric.Segment) programme {
	segment = p.withGateway(segment)
	ports := numbers{tunnel: p.have.tunnels[tunnelPort(segment.Network)].Port, local: map[string]int{}}
	for _, endpoint := range segment.Local {
		if number := p.have.ports[endpoint.ID].number; number > 0 {
			ports.local[endpoint.ID] = number
		}
	}
	return newProgramme(segment, ports)
}

// begin starts an operation, which what it returns ends: what others changed is
// to be read back by it.
func (p *Plane) begin() (end func()) {
	stale := p.activity.begin()
	for id := range stale {
		p.have = nil
		if programme, known := p.known[id]; known {
			programme.stale = true
			p.known[id] = programme
		}
	}
	return p.activity.end
}

// Invalidate makes the next Apply of each segment read the switch.
func (p *Plane) Invalidate() {
	defer p.begin()()
	p.invalidate()
}

func (p *Plane) invalidate() {
	p.have = nil
	p.gateways.Invalidate()
	p.devices.Invalidate()
	p.neighbours.reroute()
	for id, programme := range p.known {
		programme.stale = true
		p.known[id] = programme
	}
}

// BridgeOf returns the Open vSwitch bridge, ours or another's, that has device as a
// port or is device itself; empty if there is none. Any goroutine may call it.
func (p *Plane) BridgeOf(ctx context.Context, device string) string {
	return p.vswitch.BridgeOf(ctx, device)
}

var errNotApplied = errors.New("its segment was not applied")
