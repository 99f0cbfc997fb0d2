package ovs

import (
	"context"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// database watches the bridge, its ports, and the numbers that the switch gave them.
func (w watcher) database(ctx context.Context) error {
	database, err := w.vswitch.Follow(ctx)
	if err != nil {
		return err
	}
	defer database.Close()
	for {
		var stale []string
		err := w.activity.settle(ctx, database.Sync, func() {
			stale = w.differs(database)
			w.mark(stale)
		})
		if err != nil {
			return err
		}
		w.tell(stale)
		if err := database.Wait(); err != nil {
			return err
		}
	}
}

// differs returns the networks for which the database is not as the plane left it.
func (w watcher) differs(database *vswitch.Database) []string {
	if w.have == nil || len(w.known) == 0 {
		return nil // the next Apply reads it anyway
	}
	bridge, there, interfaces := database.Bridge(w.Bridge)
	if there != w.have.present || there && w.have.right && !w.isRight(bridge) {
		return slices.Collect(maps.Keys(w.known))
	}
	var stale []string
	for name, tunnel := range w.have.tunnels {
		if row := interfaces[name]; row.Port != tunnel.Port || row.Type != tunnel.Type || !maps.Equal(row.Options, tunnel.Options) {
			stale = append(stale, static)
		}
	}
	for _, port := range w.have.ports {
		// The port of a container that ended has lost its device: that is no drift.
		if interfaces[port.name].Port != port.number && w.links.has(port.name) {
			stale = append(stale, port.network)
		}
	}
	return stale
}
