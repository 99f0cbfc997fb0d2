package mirror

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

// look learns one container: its networks, its names on those of the cluster, and
// whether it was given up.
// Engines before 29.0 tell no driver a container's name, and none its aliases.
func (m *Mirror) look(ctx context.Context, id string) error {
	found, there, err := m.engine.Container(ctx, id)
	if err != nil {
		return fmt.Errorf("container %.12s: %w", id, err)
	}
	if !there || found.NetworkSettings == nil {
		m.containers.set(id, nil)
		m.Board.Retain(health.Restart, func(object string) bool { return object != id })
		return nil
	}
	if m.checkRestart(found) {
		time.AfterFunc(restartLook, func() { m.containers.changed(id) })
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
