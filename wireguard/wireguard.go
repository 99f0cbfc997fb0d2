// Package wireguard has this host's ends of encrypted networks: a WireGuard device in the
// host's namespace.
//
// A packet's path: an encrypted network's tunnel begins and ends at the addresses of the
// hosts' devices, which derive from their public keys ([fabric.WireGuard.Addr]). So it
// goes to the device, which encrypts it for the one host that has the key of its
// destination, and nowhere else. Where the device is missing it goes nowhere: a rule
// leads all that has its address as its source to a table of routes in which all else is
// unreachable, and the host's filter drops what would pass another device (Seal).
//
// The device is made when the first network asks for it ([Device.Ensure]): by the kernel,
// else by wireguard-go, a process of its own that outlives causeway. Its peers are all
// hosts that have told a key in their records ([Device.SetHosts]): a peer costs a host
// some kilobytes and, while no packet is for it, none on the wire.
//
// A rotation (rotate.go) gives the host a second device, with another key and so another
// address, and takes the first away when nothing comes by it any more. What is kept of it,
// and its steps, are in key.go; when one may be taken, in rotation.go.
package wireguard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/nl"
)

// ErrNoWireGuard says that this host has no WireGuard.
var ErrNoWireGuard = errors.New("this host has no WireGuard")

// Filter drops what comes for these addresses, or goes from them, by another device than ours.
type Filter interface {
	Seal(addrs []netip.Addr) error
}

// Config is what a Device works with; all fields are required.
type Config struct {
	// Host is this host; its WireGuard field is not looked at.
	Host fabric.Host
	// Port is the UDP port at the VTEP of the first device; the second has the next one.
	Port uint16
	// Path is the file that has the private keys.
	Path string
	// Age is how old a key gets before it is rotated; 0: it is not by itself.
	Age time.Duration
	// Managed says that processes which causeway starts end with it.
	Managed bool
	Filter  Filter
	Board   *health.Board
	Log     *logrus.Entry
	Timing  Timing
}

// Device is this host's, or both of them while its key is rotated. Its methods may be
// called from any goroutine.
type Device struct {
	Config
	kernel *nl.Handle

	asked chan struct{} // for a rotation
	now   func() time.Time

	mu     sync.Mutex
	keys   keyring
	waits  []string               // hosts that a rotation waits for
	hosts  map[string]fabric.Host // the others; nil: not read yet
	peers  map[string]peer        // by key
	wanted bool                   // a network has asked for the device
	ready  bool                   // all is as it should be
}

// Open reads the keys, or makes one. A device that is there is ours: it is wanted.
func Open(config Config) (*Device, error) {
	kernel, err := nl.Open(-1)
	if err != nil {
		return nil, fmt.Errorf("wireguard: %w", err)
	}
	config.Timing = config.Timing.orDefault()
	d := &Device{Config: config, kernel: kernel, asked: make(chan struct{}, 1), now: time.Now, peers: make(map[string]peer)}
	if d.keys, err = readKeys(config.Path, d.now()); err != nil {
		return nil, errors.Join(fmt.Errorf("wireguard: %w", err), kernel.Close())
	}
	for number := range slots {
		_, err := kernel.Link(deviceName(number))
		d.wanted = d.wanted || err == nil
	}
	return d, nil
}

// Close closes the sockets; the devices stay.
func (d *Device) Close() error { return d.kernel.Close() }

// Ends are what others have to know of it.
func (d *Device) Ends() fabric.Ends {
	d.mu.Lock()
	defer d.mu.Unlock()
	ends := fabric.Ends{WireGuard: endOf(d.keys.current, d.port(d.keys.slot))}
	switch {
	case !d.keys.rotates():
	case d.keys.switched:
		ends.Last = endOf(d.keys.other, d.port(1-d.keys.slot))
	default:
		ends.Next = endOf(d.keys.other, d.port(1-d.keys.slot))
	}
	return ends
}

// port is that of a device.
func (d *Device) port(slot int) uint16 { return d.Port + uint16(slot) }

// Ensure has the device be there, or says what is missing. It costs nothing while it is.
func (d *Device) Ensure(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = true
	return d.ensure(ctx)
}

func (d *Device) ensure(ctx context.Context) error {
	if d.ready {
		return nil
	}
	err := d.make(ctx)
	d.ready = err == nil
	if err != nil {
		err = fmt.Errorf("wireguard: %w", err)
	}
	d.Board.Report(health.Scope{Part: health.WireGuard}, err)
	return err
}

func (d *Device) make(ctx context.Context) error {
	var sealed []netip.Addr
	for _, slot := range d.keys.slots() {
		if slot.addr.IsValid() {
			sealed = append(sealed, slot.addr)
		}
	}
	if err := d.Filter.Seal(sealed); err != nil {
		return err
	}
	for _, slot := range d.keys.slots() {
		if err := d.makeSlot(ctx, slot); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) makeSlot(ctx context.Context, s slot) error {
	if err := d.closeWays(s); err != nil {
		return err
	}
	if !s.inUse() {
		return d.kernel.Remove(s.name())
	}
	link, err := d.kernel.Link(s.name())
	missing := errors.Is(err, nl.ErrNotFound)
	if missing {
		link, err = d.newDevice(ctx, s.name())
	}
	if err != nil {
		return err
	}
	if err := d.configure(s); err != nil {
		return err
	}
	if err := d.openWay(s, link); err != nil || !missing || d.keys.isNext(s) {
		return err
	}
	return greet(s.addr, d.peers)
}

// SetHosts has the device's peers be the hosts that have a key.
func (d *Device) SetHosts(hosts map[string]fabric.Host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.hosts == nil
	d.hosts = maps.Clone(hosts)
	delete(d.hosts, d.Host.Name)
	wanted := peersOf(d.hosts)
	changed, gone := changes(d.peers, wanted)
	if len(changed)+len(gone) == 0 && !first {
		return
	}
	d.peers = wanted
	if !d.ready {
		return
	}
	for _, slot := range d.keys.slots() {
		if !slot.inUse() {
			continue
		}
		write := func() error { return configurePeers(slot.name(), changed, gone) }
		if first { // the device has peers from before this start
			write = func() error { return d.configure(slot) }
		}
		if err := write(); err != nil {
			d.ready = false
			d.Log.WithError(err).Warn("wireguard: the peers are written again")
		}
	}
	d.greetNexts()
}

// Run keeps the device as it should be until ctx ends.
func (d *Device) Run(ctx context.Context) error {
	events, err := d.kernel.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return fmt.Errorf("wireguard: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	ours := true // what was missed before
	var next time.Time
	for ctx.Err() == nil {
		if ours {
			d.check(ctx)
			next = time.Now().Add(resync)
		}
		messages, err := events.Read(next)
		if err != nil && !isPassing(err) && ctx.Err() == nil {
			return fmt.Errorf("wireguard: %w", err)
		}
		ours = err != nil || concerns(messages)
	}
	return nil
}

// check repairs what others have changed.
func (d *Device) check(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted {
		return
	}
	if d.ready {
		flaw := ""
		for _, slot := range d.keys.slots() {
			flaw = cmp.Or(flaw, d.flaw(slot))
		}
		if flaw == "" {
			d.greetNexts()
			return
		}
		d.Log.Warnf("wireguard: %s; it is repaired", flaw)
	}
	d.ready = false
	_ = d.ensure(ctx) // what fails is on the board
}
