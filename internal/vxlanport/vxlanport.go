// Package vxlanport leads encrypted networks of mode=ovs through WireGuard: each has a
// VXLAN device of the kernel in the host's namespace, which is a port of the switch.
//
// A frame's path: the switch sends it to the network's device, whose FDB says the
// WireGuard address of the host that has its MAC, or those of all hosts with an endpoint
// on the network where it is broadcast or multicast. The kernel wraps it (RFC 7348), and
// the host's routes lead it into a WireGuard device or nowhere. On the other host the host
// filter judges its sender, the VNI finds the network's device, and the switch takes it there.
//
// A switch's own tunnels can't be used: its datapath in user space sends them past the
// host's routes, out of a bridge with an Ethernet port.
package vxlanport

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Config is what Ports work with.
type Config struct {
	// Host is the host's namespace; it stays the caller's to close.
	Host *nl.Handle
	// Port is the UDP port that is sent to (4789).
	Port int
	// Senders keeps strangers out of the tunnels.
	Senders Senders
	// Guard readies a new device, which is still down, for the switch.
	Guard func(device string) error
	Log   *logrus.Entry
}

// Senders say which VTEPs may deliver into a network.
type Senders interface {
	// Allow has the VTEPs, which are sorted, and no others deliver into the network of vni.
	Allow(vni uint32, vteps []netip.Addr) error
	// Forget ends what Allow began.
	Forget(vni uint32) error
}

// Ports are the devices of all networks. They are for one goroutine; Watch runs beside.
type Ports struct {
	Config
	mu      sync.Mutex
	devices map[string]*device // by network ID
}

// device is one network's, and what is known of it.
type device struct {
	want    *netlink.Vxlan
	index   int // 0: it was not looked at
	entries entries
	flood   []netip.Addr // as written last
	trusted bool         // nobody else has changed it since it was read
}

// New returns Ports; nothing is changed before Ensure.
func New(config Config) *Ports {
	config.Port = cmp.Or(config.Port, 4789)
	return &Ports{Config: config, devices: make(map[string]*device)}
}

// mark and a network's ID are the device's alias.
const mark = "causeway ovs network "

// Ensure has the segment's device be there, as it should be, and lets in its senders
// alone. It says whether the device was created, and counts what was repaired.
// The entries are for Write and Update.
func (p *Ports) Ensure(segment fabric.Segment) (fresh bool, repaired int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh, repaired, err = p.ensure(segment)
	if err != nil {
		p.distrust(segment.Network.ID)
		return fresh, repaired, fmt.Errorf("device of encrypted network %s: %w", segment.Network.Label(), err)
	}
	return fresh, repaired, nil
}

func (p *Ports) ensure(segment fabric.Segment) (fresh bool, repaired int, err error) {
	if !segment.VTEP.IsValid() {
		return false, 0, errors.New("this host has no WireGuard device")
	}
	// Before the device is there: what comes in is checked from the first frame.
	if err := p.Senders.Allow(segment.Network.VNI, segment.Senders()); err != nil {
		return false, 0, err
	}
	d, want := p.devices[segment.Network.ID], p.deviceOf(segment)
	if d == nil {
		d = &device{}
		p.devices[segment.Network.ID] = d
	}
	if d.trusted && d.want.SrcAddr.Equal(want.SrcAddr) && d.want.MTU == want.MTU {
		return false, 0, nil
	}
	known := d.index != 0
	d.want = want
	if fresh, repaired, err = p.mend(d, segment.Network); err != nil {
		return fresh, repaired, err
	}
	have, err := p.read(d)
	if err != nil {
		return fresh, repaired, err
	}
	if known {
		repaired += d.entries.lost(have)
	}
	d.entries, d.trusted = have, true
	return fresh, repaired, nil
}

// mend makes the kernel's device the one that is wanted. Where it sends from is changed
// while it carries, as when this host's key is rotated.
func (p *Ports) mend(d *device, network fabric.Network) (fresh bool, repaired int, err error) {
	link, err := p.Host.Link(d.want.Name)
	if errors.Is(err, nl.ErrNotFound) {
		if d.index != 0 {
			repaired = 1
		}
		return true, repaired, p.create(d)
	}
	if err != nil {
		return false, 0, err
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 { // its maker may have been killed before it was up
		if err := p.Guard(d.want.Name); err != nil {
			return false, 0, err
		}
	}
	repaired, reason, err := p.Host.MendVXLAN(d.want, link)
	if err != nil || reason == "" {
		d.index = link.Attrs().Index
		return false, repaired, err
	}
	p.Log.WithField("network", network.Label()).Infof("%s is recreated: it %s", d.want.Name, reason)
	if err := p.Host.Remove(d.want.Name); err != nil {
		return false, 0, err
	}
	return true, 1, p.create(d)
}

func (p *Ports) create(d *device) error {
	link, err := p.Host.CreateVXLAN(d.want)
	if err != nil {
		return err
	}
	if err := p.Guard(d.want.Name); err != nil {
		return errors.Join(err, p.Host.Remove(d.want.Name))
	}
	if err := p.Host.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", d.want.Name, err)
	}
	d.index = link.Attrs().Index
	return nil
}

func (p *Ports) deviceOf(segment fabric.Segment) *netlink.Vxlan {
	device := nl.NewVXLAN(fabric.SealedPort(segment.Network), segment.Network.VNI, segment.VTEP, p.Port)
	device.HardwareAddr = fabric.DeriveMAC(segment.Network.ID, segment.VTEP).HardwareAddr()
	device.MTU, device.Alias = segment.MTU, mark+segment.Network.ID
	return device
}

// Prune deletes the devices of networks that are not kept.
func (p *Ports) Prune(keep []fabric.Segment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := make(map[string]bool)
	for _, segment := range keep {
		kept[segment.Network.ID] = segment.Network.Encrypted
	}
	links, err := p.Host.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		network, ours := strings.CutPrefix(link.Attrs().Alias, mark)
		device, ok := link.(*netlink.Vxlan)
		if !ours || !ok || kept[network] {
			continue
		}
		if err := errors.Join(p.Host.Remove(device.Name), p.Senders.Forget(uint32(device.VxlanId))); err != nil {
			return fmt.Errorf("device of an encrypted network that is gone: %w", err)
		}
		delete(p.devices, network)
	}
	return nil
}

// Invalidate makes the next Ensure of each segment read the kernel back.
func (p *Ports) Invalidate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for network := range p.devices {
		p.distrust(network)
	}
}

func (p *Ports) distrust(network string) {
	if d := p.devices[network]; d != nil {
		d.trusted = false
	}
}
