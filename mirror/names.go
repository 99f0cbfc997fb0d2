package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// look learns one container: its networks, and its names on those of the cluster.
// Engines before 29.0 tell no driver a container's name, and none its aliases.
func (m *Mirror) look(ctx context.Context, id string) error {
	found, there, err := m.engine.container(ctx, id)
	if err != nil {
		return fmt.Errorf("container %.12s: %w", id, err)
	}
	if !there || found.NetworkSettings == nil {
		m.containers.set(id, nil)
		return nil
	}
	m.containers.set(id, networksOf(found.NetworkSettings.Networks))
	for name, on := range found.NetworkSettings.Networks {
		if on == nil || on.EndpointID == "" {
			continue
		}
		attachment, ours := m.attachments.get(on.NetworkID)
		names := namesOf(found, on)
		if !ours || m.containers.hasNames(id, name, names) {
			continue // one that is attached only later is looked at then
		}
		cluster, err := m.records().Network(ctx, attachment.Network)
		if err != nil {
			return err
		}
		there, err := m.records().NameEndpoint(ctx, cluster, on.EndpointID, names)
		if err != nil {
			return err
		}
		if there {
			m.containers.setNames(id, name, names)
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
