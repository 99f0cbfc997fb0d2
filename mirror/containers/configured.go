package containers

import (
	"context"
	"time"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/records"
)

// keepConfigured writes into the records for which of the cluster's networks this
// host has containers, stopped ones included: such a network is in use.
func (c *Containers) keepConfigured(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.known.changed:
		}
		err := c.writeConfigured(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.Board.Report(health.Scope{Part: health.Mirror, Object: records.MembersPrefix}, err)
		if err != nil {
			time.AfterFunc(retryAfter, func() { signal(c.known.changed) })
		}
	}
}

// writeConfigured writes what differs from the records.
func (c *Containers) writeConfigured(ctx context.Context) error {
	attachments, synced := c.Attachments.All()
	if !synced {
		return nil // AttachmentsChanged follows
	}
	names := make(map[string]string, len(attachments)) // Docker's NetworkID by name
	for dockerID, attachment := range attachments {
		if network, known := c.Networks.Get(attachment.Network); known && network.Name != "" {
			names[network.Name] = dockerID
		}
	}
	for dockerID, configured := range c.known.miscounted(attachments, names) {
		count := 0
		if configured {
			count = 1 // the number would be written with each container
		}
		if err := c.Records.SetConfigured(ctx, attachments[dockerID].Network, count); err != nil {
			return err
		}
		c.known.setConfigured(dockerID, configured)
	}
	return nil
}

// miscounted gives the networks whose records differ from the containers, and
// whether each has one. A container that never ran, or whose network was put back,
// knows it by its name alone.
func (k *known) miscounted(attachments map[string]records.Attachment, names map[string]string) map[string]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.listed {
		return nil
	}
	now := make(map[string]bool, len(attachments))
	for dockerID := range attachments {
		now[dockerID] = false
	}
	for _, networks := range k.networks {
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
		if last, known := k.configured[dockerID]; known && last == configured {
			delete(now, dockerID)
		}
	}
	return now
}

func (k *known) setConfigured(dockerID string, configured bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.configured[dockerID] = configured
}
