package wireguard

import (
	"context"
	"fmt"
	"strings"

	"github.com/causeway-net/causeway/internal/pause"
)

// awaitSilence waits until nothing comes or goes by the last key's device any more, and
// deletes it.
func (d *Device) awaitSilence(ctx context.Context) error {
	var last leaving
	for {
		bytes, wanted, err := d.turnAway(ctx)
		if err != nil {
			return err
		}
		if !wanted || last.observe(d.now(), bytes, d.Timing) {
			return d.change(ctx, keyring.retire)
		}
		if err := pause.For(ctx, 10*d.Timing.Tick); err != nil {
			return err
		}
	}
}

// turnAway counts the bytes of the last key's device. Its route is written anew: the
// kernel's tunnels keep where they found a way to, and from which address, until then.
func (d *Device) turnAway(ctx context.Context) (bytes int64, wanted bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted {
		return 0, false, nil
	}
	if err := d.ensure(ctx); err != nil {
		return 0, true, err
	}
	last := d.keys.slots()[1]
	link, err := d.kernel.Link(last.name())
	if err != nil {
		return 0, true, err
	}
	if err := d.kernel.RouteReplace(last.route(link)); err != nil {
		return 0, true, fmt.Errorf("route to %s: %w", last.name(), err)
	}
	have, err := configuration(last.name())
	if err != nil {
		return 0, true, err
	}
	for _, peer := range have.Peers {
		bytes += peer.ReceiveBytes + peer.TransmitBytes
	}
	return bytes, true, nil
}

// noteWaits keeps which hosts are waited for.
func (d *Device) noteWaits(hosts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits = hosts
}

// list names some hosts, and counts the rest.
func list(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
