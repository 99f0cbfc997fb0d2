package wireguard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
)

// Publish tells the other hosts of this host's ends, and has its own tunnels begin at the
// current one. It returns when others can read it, or when ctx ends.
type Publish func(ctx context.Context, current, other fabric.WireGuard) error

// Rotation tells this host's public key, and which hosts another one waits for.
func (d *Device) Rotation() (key string, waits []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys.current.PublicKey().String(), d.waits
}

// Rotate asks for another key. It fails while the one before is still taken.
func (d *Device) Rotate() error {
	if d.ring().switched {
		return errors.New("this host's key is a new one already, and the last one still taken: it goes when nothing has come by it for three minutes")
	}
	select {
	case d.asked <- struct{}{}:
	default:
	}
	return nil
}

// KeepKeys rotates this host's key when it has its age or is asked to, until ctx ends. A
// rotation that a crash broke off goes on: its step is in --data-dir before it is taken.
func (d *Device) KeepKeys(ctx context.Context, publish Publish) error {
	for ctx.Err() == nil {
		if err := d.rotation(ctx, publish); err != nil && ctx.Err() == nil {
			d.Board.Report(keyScope(), fmt.Errorf("this host's key is not rotated, it is retried: %w", err))
			pause(ctx, d.Timing.Patience)
			continue
		}
		d.Board.Report(keyScope(), nil)
	}
	return nil
}

func keyScope() health.Scope { return health.Scope{Part: health.WireGuard, Object: "key"} }

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
		if err := d.tell(ctx, publish); err != nil {
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
	return d.tell(ctx, publish)
}

func (d *Device) ring() keyring {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys
}

func (d *Device) tell(ctx context.Context, publish Publish) error {
	current, other := d.Ends()
	return publish(ctx, current, other)
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
	return d.ensure(ctx)
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
		peers, wanted, err := d.greetFromNext(ctx)
		if err != nil {
			return err
		}
		waits, use := told.observe(d.now(), peers, d.Timing)
		if use || !wanted {
			return d.change(ctx, func(k keyring) keyring { return k.takeUp(d.now()) })
		}
		names := d.noteWaits(waits)
		if len(names) > 0 && d.now().Sub(told.since) > long {
			d.Board.Report(keyScope(), fmt.Errorf("this host's next key waits for %s: nothing comes back from there to UDP port %d, or its causeway is older and knows one key of a host",
				list(names), d.port(1-d.ring().slot)))
		}
		if !pause(ctx, d.Timing.Tick) {
			return ctx.Err()
		}
	}
}

// greetFromNext has the next key's device make sessions, and tells with whom there are
// any; nobody is there to be asked where no network has asked for the devices.
func (d *Device) greetFromNext(ctx context.Context) (map[string]handshakes, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted {
		return nil, false, nil
	}
	if err := d.ensure(ctx); err != nil {
		return nil, true, err
	}
	slots := d.keys.slots()
	made := make(map[string]handshakes, len(d.peers))
	for key := range d.peers {
		made[key] = handshakes{}
	}
	for i, slot := range slots {
		have, err := configuration(slot.name())
		if err != nil {
			return nil, true, err
		}
		for _, peer := range have.Peers {
			key := peer.PublicKey.String()
			one, known := made[key]
			if !known {
				continue
			}
			if i == 0 {
				one.now = peer.LastHandshakeTime
			} else {
				one.next = peer.LastHandshakeTime
			}
			made[key] = one
		}
	}
	missing := make(map[string]peer)
	for key, one := range made {
		if one.next.IsZero() {
			missing[key] = d.peers[key]
		}
	}
	return made, true, greet(slots[1].addr, missing)
}
