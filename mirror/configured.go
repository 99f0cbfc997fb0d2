package mirror

import (
	"context"

	"github.com/causeway-net/causeway/internal/health"
)

// keepConfigured writes into the records for which of the cluster's networks this
// host has containers, stopped ones included: such a network is in use.
func (m *Mirror) keepConfigured(ctx context.Context) error {
	written := make(map[string]bool) // by Docker's NetworkID
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.containers.recount:
		}
		if err := m.writeConfigured(ctx, written); err != nil && ctx.Err() == nil {
			if err := pause(ctx, retryAfter); err != nil {
				return err
			}
			signal(m.containers.recount)
		}
	}
}

// writeConfigured writes what differs from what was written.
func (m *Mirror) writeConfigured(ctx context.Context, written map[string]bool) error {
	attachments, synced := m.attachments.all()
	names := make(map[string]string, len(attachments)) // Docker's NetworkID by name
	for dockerID, attachment := range attachments {
		if network, known := m.networks.get(attachment.Network); known && network.Name != "" {
			names[network.Name] = dockerID
		}
	}
	configured, listed := m.containers.configured(func(name, dockerID string) (string, bool) {
		if _, ours := attachments[dockerID]; ours {
			return dockerID, true
		}
		dockerID, ours := names[name] // it never ran, or the network was put back meanwhile
		return dockerID, ours
	})
	if !synced || !listed {
		return nil // either signals
	}
	for dockerID := range written {
		if _, attached := attachments[dockerID]; !attached {
			delete(written, dockerID)
		}
	}
	for dockerID, attachment := range attachments {
		last, known := written[dockerID]
		if known && last == configured[dockerID] {
			continue
		}
		count := 0
		if configured[dockerID] {
			count = 1 // a number would be written with each container
		}
		err := m.records().SetConfigured(ctx, attachment.Network, count)
		m.Board.Report(health.Scope{Part: health.Mirror, Object: "members/"}, err)
		if err != nil {
			return err
		}
		written[dockerID] = configured[dockerID]
	}
	return nil
}

// configured says which networks have containers; of tells for a container's
// network, by name and ID, which one it is.
func (c *containers) configured(of func(name, dockerID string) (string, bool)) (found map[string]bool, listed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found = make(map[string]bool)
	for _, networks := range c.known {
		for name, on := range networks {
			if dockerID, ours := of(name, on.dockerID); ours {
				found[dockerID] = true
			}
		}
	}
	return found, c.listed
}
