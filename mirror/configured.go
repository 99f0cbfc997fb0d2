package mirror

import (
	"context"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/records"
)

// keepConfigured writes into the records for which of the cluster's networks this
// host has containers, stopped ones included: such a network is in use.
func (m *Mirror) keepConfigured(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.containers.recount:
		}
		err := m.writeConfigured(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.Board.Report(health.Scope{Part: health.Mirror, Object: records.MembersPrefix}, err)
		if err != nil {
			if err := pause(ctx, retryAfter); err != nil {
				return err
			}
			signal(m.containers.recount)
		}
	}
}

// writeConfigured writes what differs from the records.
func (m *Mirror) writeConfigured(ctx context.Context) error {
	attachments, synced := m.attachments.all()
	names := make(map[string]string, len(attachments)) // Docker's NetworkID by name
	for dockerID, attachment := range attachments {
		if network, known := m.networks.get(attachment.Network); known && network.Name != "" {
			names[network.Name] = dockerID
		}
	}
	changed := m.containers.miscounted(attachments, names)
	if !synced {
		return nil // the table signals
	}
	for dockerID, configured := range changed {
		count := 0
		if configured {
			count = 1 // the number would be written with each container
		}
		if err := m.records().SetConfigured(ctx, attachments[dockerID].Network, count); err != nil {
			return err
		}
		m.containers.setConfigured(dockerID, configured)
	}
	return nil
}

// miscounted gives the networks whose records differ from the containers, and
// whether each has one. A container that never ran, or whose network was put back,
// knows it by its name alone.
func (c *containers) miscounted(attachments map[string]records.Attachment, names map[string]string) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.listed {
		return nil
	}
	now := make(map[string]bool, len(attachments))
	for dockerID := range attachments {
		now[dockerID] = false
	}
	for _, networks := range c.known {
		for name, on := range networks {
			dockerID := on.dockerID
			if _, ours := attachments[dockerID]; !ours {
				dockerID = names[name]
			}
			if _, ours := attachments[dockerID]; ours {
				now[dockerID] = true
			}
		}
	}
	for dockerID, configured := range now {
		if last, known := c.configured[dockerID]; known && last == configured {
			delete(now, dockerID)
		}
	}
	return now
}

func (c *containers) setConfigured(dockerID string, configured bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.configured[dockerID] = configured
}
