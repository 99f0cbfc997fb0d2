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
package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

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
	// Port is the UDP port at the VTEP.
	Port uint16
	// Path is the file that has the private key.
	Path string
	// Managed says that processes which causeway starts end with it.
	Managed bool
	Filter  Filter
	Board   *health.Board
	Log     *logrus.Entry
}

// Device is this host's. Its methods may be called from any goroutine.
type Device struct {
	Config
	kernel *nl.Handle

	private wgtypes.Key

	mu     sync.Mutex
	peers  map[string]peer
	wanted bool // a network has asked for the device
	ready  bool // it is as it should be
}

// Open reads the key, or makes one. A device that is there is ours: it is wanted.
func Open(config Config) (*Device, error) {
	kernel, err := nl.Open(-1)
	if err != nil {
		return nil, fmt.Errorf("wireguard: %w", err)
	}
	d := &Device{Config: config, kernel: kernel, peers: make(map[string]peer)}
	if d.private, err = readKey(config.Path); err != nil {
		return nil, errors.Join(fmt.Errorf("wireguard: %w", err), kernel.Close())
	}
	_, err = kernel.Link(device)
	d.wanted = err == nil
	return d, nil
}

// Close closes the sockets; the devices stay.
func (d *Device) Close() error { return d.kernel.Close() }

// End is what others have to know of it.
func (d *Device) End() fabric.WireGuard {
	return fabric.WireGuard{Key: d.private.PublicKey().String(), Port: d.Port}
}

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
	if err := d.Filter.Seal([]netip.Addr{d.End().Addr()}); err != nil {
		return err
	}
	if err := d.closeWays(); err != nil {
		return err
	}
	link, err := d.kernel.Link(device)
	created := errors.Is(err, nl.ErrNotFound)
	if created {
		link, err = d.newDevice(ctx)
	}
	if err != nil {
		return err
	}
	if err := d.configure(); err != nil {
		return err
	}
	if err := d.openWay(link); err != nil || !created {
		return err
	}
	return d.greet()
}

// SetHosts has the device's peers be the hosts that have a key.
func (d *Device) SetHosts(hosts map[string]fabric.Host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := d.peersOf(hosts)
	changed, gone := changes(d.peers, wanted)
	if len(changed)+len(gone) == 0 {
		return
	}
	d.peers = wanted
	if !d.ready {
		return
	}
	if err := configurePeers(changed, gone); err != nil {
		d.ready = false
		d.Log.WithError(err).Warn("wireguard: the peers are written again")
	}
}

// Run keeps the device as it should be until ctx ends.
func (d *Device) Run(ctx context.Context) error {
	events, err := d.kernel.Subscribe(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return fmt.Errorf("wireguard: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	ours := true // what was missed before
	for ctx.Err() == nil {
		if ours {
			d.check(ctx)
		}
		messages, err := events.Read(time.Now().Add(resync))
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
		flaw := d.flaw()
		if flaw == "" {
			return
		}
		d.Log.Warnf("wireguard: %s; it is repaired", flaw)
	}
	d.ready = false
	_ = d.ensure(ctx) // what fails is on the board
}
