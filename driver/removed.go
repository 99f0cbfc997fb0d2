package driver

import "context"

// detach detaches a network that Docker removes. It tells the mirror first: the engine
// no longer lists the network, and the mirror must not take it for one that is new in
// the cluster. A network for which a container of this engine is configured, a stopped
// one included, is in use and stays in the cluster.
func (d *Driver) detach(ctx context.Context, dockerID string) error {
	keep := d.freedByLeader(dockerID)
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

// checkRemoved refuses to create a network under the name of one that was removed here
// a moment ago and that others use. Docker tells drivers no names: the mirror finds out
// by trying to put that one back while this one is being created.
func (d *Driver) checkRemoved(ctx context.Context, dockerID string, ofMirror bool) error {
	if d.Engine == nil || ofMirror || ofSwarm(dockerID) {
		return nil
	}
	return d.Engine.PutBack(ctx)
}
