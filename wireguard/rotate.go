package wireguard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/pause"
)

// Publish tells the other hosts of this host's ends, and has its own tunnels begin at the
// first. It returns when others can read it, or when ctx ends.
type Publish func(ctx context.Context, ends fabric.Ends) error

// Rotation tells this host's public key, and which hosts another one waits for.
func (d *Device) Rotation() (key string, waits []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys.current.PublicKey().String(), d.waits
}

// Rotate asks for another key. It fails while the one before is still taken.
func (d *Device) Rotate() error {
	switch keys := d.ring(); {
	case keys.switched:
		return errors.New("this host's key is a new one already, and the last one still taken: it goes when nothing has come by it for three minutes")
	case keys.rotates():
		return nil
	}
	select {
	case d.asked <- struct{}{}:
	default:
	}
	return nil
}

// Replace asks for another key where this public key is the one in use.
func (d *Device) Replace(key string) {
	if current, _ := d.Rotation(); current == key {
		_ = d.Rotate() // it fails for a new key alone
	}
}

// KeepKeys rotates this host's key when it has its age or is asked to, until ctx ends. A
// rotation that a crash broke off goes on: its step is in --data-dir before it is taken.
func (d *Device) KeepKeys(ctx context.Context, publish Publish) error {
	for ctx.Err() == nil {
		if err := d.rotation(ctx, publish); err != nil && ctx.Err() == nil {
			d.Board.Report(keyScope(), fmt.Errorf("this host's key is not rotated, it is retried: %w", err))
			_ = pause.For(ctx, d.Timing.Patience) // the loop ends with ctx
			continue
		}
		d.Board.Report(keyScope(), nil)
	}
	return nil
}

func keyScope() health.Scope { return health.Scope{Part: health.Key} }

// rotation waits until one is due, or goes on with the one under way, and ends with it.
func (d *Device) rotation(ctx context.Context, publish Publish) error {
	keys := d.ring()
	if !keys.rotates() {
		if !d.awaitDue(ctx, keys) {
			return ctx.Err()
		}
		next, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return err
		}
		if err := d.change(ctx, func(k keyring) keyring { return k.offer(next) }); err != nil {
			return err
		}
		d.Log.Info("wireguard: this host's key is rotated")
	}
	for d.ring().rotates() {
		if err := publish(ctx, d.Ends()); err != nil {
			return err
		}
		next := d.awaitUse
		if d.ring().switched {
			next = d.awaitSilence
		}
		if err := next(ctx); err != nil {
			return err
		}
		d.Board.Report(keyScope(), nil)
	}
	d.Log.Info("wireguard: this host's last key is gone")
	return publish(ctx, d.Ends())
}

func (d *Device) ring() keyring {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys
}

// change takes a step: it is kept first, so that no key is used that a restart forgets.
func (d *Device) change(ctx context.Context, step func(keyring) keyring) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := step(d.keys)
	if err := keys.write(d.Path); err != nil {
		return err
	}
	d.keys, d.ready, d.waits = keys, false, nil
	if !d.wanted {
		return nil
	}
	err := d.ensure(ctx)
	d.greetNexts() // other hosts wait for a session with the key in use
	return err
}

// awaitDue is false when ctx has ended.
func (d *Device) awaitDue(ctx context.Context, keys keyring) bool {
	defer func() { // of many requests
		select {
		case <-d.asked:
		default:
		}
	}()
	var due <-chan time.Time
	if d.Age > 0 {
		timer := time.NewTimer(keys.due(d.Age).Sub(d.now()))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-due:
	case <-d.asked:
	}
	return true
}

// awaitUse waits until all have let the next key in, and takes it up.
func (d *Device) awaitUse(ctx context.Context) error {
	const long = 5 * time.Minute
	told := offering{since: d.now()}
	for {
		made, wanted, err := d.sessions(ctx)
		if err != nil {
			return err
		}
		waits, use := told.observe(d.now(), made, d.Timing)
		if use || !wanted {
			return d.change(ctx, func(k keyring) keyring { return k.takeUp(d.now()) })
		}
		d.noteWaits(waits)
		if len(waits) > 0 && d.now().Sub(told.since) > long {
			d.Board.Report(keyScope(), fmt.Errorf("this host's next key waits for %s: nothing comes from there to UDP port %d, or causeway is older there and knows one key of a host",
				list(waits), d.port(1-d.ring().slot)))
		}
		if err := pause.For(ctx, d.Timing.Tick); err != nil {
			return err
		}
	}
}

// sessions tells when the other hosts made one with each of the devices, by name; false
// says that no network has asked for the devices.
func (d *Device) sessions(ctx context.Context) (map[string]handshakes, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted {
		return nil, false, nil
	}
	if err := d.ensure(ctx); err != nil {
		return nil, true, err
	}
	slots := d.keys.slots()
	now, err := handshakesOf(slots[0].name())
	if err != nil {
		return nil, true, err
	}
	next, err := handshakesOf(slots[1].name())
	made := make(map[string]handshakes, len(d.hosts)+1)
	if d.hosts == nil {
		made["the store"] = handshakes{now: d.now()} // it is not known yet who is to be waited for
	}
	for _, host := range d.hosts {
		if key := host.WireGuard.Key; key != "" {
			made[host.Shown()] = handshakes{now[key], next[key]}
		}
	}
	return made, true, err
}

func handshakesOf(device string) (map[string]time.Time, error) {
	have, err := configuration(device)
	if err != nil {
		return nil, err
	}
	last := make(map[string]time.Time, len(have.Peers))
	for _, peer := range have.Peers {
		last[peer.PublicKey.String()] = peer.LastHandshakeTime
	}
	return last, nil
}

// greetNexts has this host's device make sessions with the next devices of other hosts,
// which wait for that, where there is none of late.
func (d *Device) greetNexts() {
	if !d.ready {
		return
	}
	own := d.keys.slots()[0]
	var last map[string]time.Time
	missing := make(map[string]peer)
	for _, host := range d.hosts {
		next, there := d.peers[host.Next.Key]
		if !there {
			continue
		}
		if last == nil {
			var err error
			if last, err = handshakesOf(own.name()); err != nil {
				d.Log.WithError(err).Warn("wireguard: the next keys of other hosts are greeted later")
				return
			}
		}
		if d.now().Sub(last[host.Next.Key]) > d.Timing.Reject {
			missing[host.Next.Key] = next
		}
	}
	if err := greet(own.addr, missing); err != nil {
		d.Log.WithError(err).Warn("wireguard: the next keys of other hosts are greeted later")
	}
}
