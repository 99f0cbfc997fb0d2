package driver

import "context"

// detach detaches Docker's network for a removal. The mirror hears of it before,
// because the engine lists the network no more: it must not take it for one that
// is new in the cluster. A network that a container of this engine is
// configured for, stopped ones included, is in use.
func (d *Driver) detach(ctx context.Context, dockerID string) error {
	keep := d.leadersToFree(dockerID)
	if d.Engine == nil || keep {
		return d.records.Detach(ctx, dockerID, keep)
	}
	found, attachment, err := d.records.Attached(ctx, dockerID)
	mirrored := err == nil && found.Name != "" && !found.Swarm && !attachment.Pending
	if mirrored {
		d.Engine.Removing(dockerID, found.ID)
		// If the engine does not say, Docker's rule holds: stopped containers do not count.
		configured, err := d.Engine.Configured(ctx, dockerID, found.Name)
		keep = configured && err == nil
	}
	return d.records.Detach(ctx, dockerID, keep)
}

// clearOfRemoved refuses to create a network under the name of one that was
// removed here a moment ago while others use it. Docker tells no names: the engine
// knows whether that one can come back while this one is being created.
func (d *Driver) clearOfRemoved(ctx context.Context, dockerID string, ofMirror bool) error {
	if d.Engine == nil || ofMirror || ofSwarm(dockerID) {
		return nil
	}
	return d.Engine.PutBack(ctx)
}
