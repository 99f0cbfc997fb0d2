package containers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/internal/health"
)

// inspect reads one container: its networks, its names on those of the cluster, and
// whether its restart policy gave it up. Engines before 29.0 tell no driver a
// container's name, and none its aliases.
func (c *Containers) inspect(ctx context.Context, id string) error {
	found, there, err := c.Engine.Container(ctx, id)
	if err != nil {
		return fmt.Errorf("container %.12s: %w", id, err)
	}
	if !there || found.NetworkSettings == nil {
		c.known.set(id, nil)
		c.Board.Retain(health.Restart, func(object string) bool { return object != id })
		return nil
	}
	if c.checkRestart(found) {
		time.AfterFunc(restartCheck, func() { c.Changed(id) })
	}
	c.known.set(id, networksOf(found.NetworkSettings.Networks))
	for name, on := range found.NetworkSettings.Networks {
		if on == nil || on.EndpointID == "" {
			continue
		}
		attachment, ours := c.Attachments.Get(on.NetworkID)
		names := namesOf(found, on)
		if !ours || c.known.hasNames(id, name, names) {
			continue // when the network is attached, AttachmentsChanged has it inspected
		}
		network, err := c.Records.Network(ctx, attachment.Network)
		if err != nil {
			return err
		}
		there, err := c.Records.NameEndpoint(ctx, network, on.EndpointID, names)
		if err != nil {
			return err
		}
		if there {
			c.known.setNames(id, name, names)
		}
	}
	return nil
}

// namesOf are the names that Docker's resolver gives a container on a network: its
// own first, then its aliases there, its short ID, and from 25.0 on its hostname.
func namesOf(found container.InspectResponse, on *network.EndpointSettings) []string {
	names := []string{strings.TrimPrefix(found.Name, "/")}
	more := append(slices.Clone(on.Aliases), on.DNSNames...)
	for _, name := range append(more, found.ID[:min(len(found.ID), 12)]) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
