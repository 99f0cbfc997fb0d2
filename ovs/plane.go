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
)

// Config is what a Plane works with; a zero field takes what is in brackets.
type Config struct {
	// Bridge is made if it is not there ("causeway"). One that is there already
	// keeps its settings and all flows and ports that are not ours.
	Bridge string
	// Datapath is "system" (the kernel's), "netdev" (userspace) or empty: the
	// kernel's if the kernel has it.
	Datapath string
	// VXLANPort is the UDP port of vxlan tunnels (8472); all hosts must have the same.
	VXLANPort uint16
	// VTEP is this host's, so that Check can tell whether tunnels leave from it.
	VTEP netip.Addr
	// RunDir has the daemons' sockets (/run/openvswitch).
	RunDir string
	// HostNS is the host's network namespace; netns.None() is the process's own.
	// It stays the caller's to close.
	HostNS netns.NsHandle
	// Exec runs the commands; nil runs the real ones.
	Exec Exec
	Log  *logrus.Entry
}

// Plane realises the segments of mode=ovs. It is for one goroutine.
type Plane struct {
	Config
	vswitch  vswitch
	patience *patience
	links    links

	have       *inventory // nil is not to be trusted
	generation string     // of the bridge when it was last looked at
	known      map[string]programme
}

// programme is what one network's flows were made from. The key static has
// those that serve every network.
type programme struct {
	segment fabric.Segment
	ports   numbers
	// doubted says that the switch may have other flows by now.
	doubted bool
}

const static = ""

func (p programme) flows() []flow {
	if p.segment.Network.ID == static {
		return staticFlows()
	}
	return flowsOf(p.segment, p.ports)
}

// New makes a Plane; the switch is not touched, nor need there be one.
func New(config Config) (*Plane, error) {
	config.Bridge = cmp.Or(config.Bridge, "causeway")
	config.VXLANPort = cmp.Or(config.VXLANPort, 8472)
	config.RunDir = cmp.Or(config.RunDir, "/run/openvswitch")
	if config.Exec == nil {
		config.Exec = execIn(config.RunDir)
	}
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
	vswitch := vswitch{runDir: config.RunDir, bridge: config.Bridge}
	patience := &patience{run: config.Exec, generation: vswitch.generation}
	vswitch.exec = patience.exec
	return &Plane{Config: config, vswitch: vswitch, patience: patience, links: links, known: map[string]programme{}}, nil
}

// Close gives the netlink socket back; what was made stays.
func (p *Plane) Close() error { return p.links.Close() }

// Check says what is missing here for network to be realised.
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
	rows, err := p.vswitch.interfaces(ctx)
	if err != nil || !p.VTEP.IsValid() {
		return err
	}
	have := inventory{internal: map[string]bool{}}
	for _, row := range rows {
		have.sort(row, false)
	}
	return p.leaves(p.VTEP, have.internal)
}

// missing says why the switch cannot be asked now. A silent one is not even
// dialled: each attempt would stay in its sockets' queues.
func (p *Plane) missing(ctx context.Context) error {
	if p.patience.silent() {
		return errSilent
	}
	return p.vswitch.missing(ctx)
}

// leaves says why tunnels cannot leave from vtep: the kernel has no datapath, or
// the userspace one is to send them, which it does only through a bridge of its
// own. The devices of bridges are internal.
func (p *Plane) leaves(vtep netip.Addr, internal map[string]bool) error {
	if p.Datapath == "system" {
		if !kernelDatapath() {
			return errors.New("the kernel has no Open vSwitch datapath, which the setting system asks for: load its module openvswitch, or use netdev")
		}
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

// Apply makes the segment's ports, tunnel port and flows as they should be.
func (p *Plane) Apply(ctx context.Context, segment fabric.Segment) (mended int, err error) {
	mended, err = p.apply(ctx, segment)
	if err != nil {
		p.Invalidate()
		if errors.Is(err, errSilent) {
			err = errSilent // one fault, whichever command met it
		}
		return mended, fmt.Errorf("ovs: %w", err)
	}
	return mended, nil
}

func (p *Plane) apply(ctx context.Context, segment fabric.Segment) (mended int, err error) {
	if err := p.missing(ctx); err != nil {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	steps := []func() (int, error){
		func() (int, error) { return p.ensureBridge(ctx, segment.VTEP) },
		func() (int, error) { return p.ensureTunnel(ctx, segment) },
		func() (int, error) { return p.connect(ctx, segment) },
		func() (int, error) { return 0, p.label(ctx, segment) },
		func() (int, error) { return 0, p.disconnect(ctx, segment.Network.ID, segment.Local) },
		func() (int, error) { return p.program(ctx, segment.Network.ID, p.programme(segment)) },
	}
	for _, step := range steps {
		n, err := step()
		mended += n
		if err != nil {
			return mended, err
		}
	}
	return mended, nil
}

func (p *Plane) programme(segment fabric.Segment) programme {
	ports := numbers{tunnel: p.have.tunnels[tunnelPort(segment.Network)].Port, local: map[string]int{}}
	for _, endpoint := range segment.Local {
		if number := p.have.ports[endpoint.ID].number; number > 0 {
			ports.local[endpoint.ID] = number
		}
	}
	return programme{segment: segment, ports: ports}
}

// program writes the difference between a network's flows and those that want
// gives. What it finds missing of flows that were written and are wanted still
// is mended.
func (p *Plane) program(ctx context.Context, id string, want programme) (mended int, err error) {
	flows := want.flows()
	last, known := p.known[id]
	var have []flow
	if known && !last.doubted {
		have = last.flows()
	} else {
		have, err = p.vswitch.dumpFlows(ctx, cookieOf(want.segment.Network), ^uint64(0), "")
		if err != nil {
			return 0, err
		}
		if known {
			mended = missingOf(last.flows(), flows, have)
		}
	}
	if err := p.vswitch.write(ctx, changeOf(have, flows)); err != nil {
		return 0, err
	}
	p.known[id] = want
	return mended, nil
}

// missingOf counts what is in both last and want, and not in have.
func missingOf(last, want, have []flow) int {
	there := make(map[flow]bool, len(have))
	for _, f := range have {
		there[f] = true
	}
	wanted := make(map[flow]bool, len(want))
	for _, f := range want {
		wanted[f] = true
	}
	missing := 0
	for _, f := range last {
		if wanted[f] && !there[f] {
			missing++
		}
	}
	return missing
}

// Invalidate makes the next Apply of each segment read the switch.
func (p *Plane) Invalidate() {
	p.have = nil
	for id, programme := range p.known {
		programme.doubted = true
		p.known[id] = programme
	}
}

// Drifted says that ovs-vswitchd was restarted, or that the bridge was deleted
// or made anew, since it was last looked at.
func (p *Plane) Drifted(context.Context) bool {
	return len(p.known) > 0 && p.vswitch.generation() != p.generation
}

var errNotApplied = errors.New("its segment was not applied")
