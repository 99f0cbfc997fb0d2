package mirror

import (
	"context"
	"slices"
)

// nameEndpoint writes a container's names into its endpoint's record: engines
// before 29.0 tell no driver the container's name, and none its aliases.
func (m *Mirror) nameEndpoint(ctx context.Context, network, endpoint string, names []string) error {
	m.containers.mu.Lock()
	known := slices.Equal(m.containers.named[endpoint], names)
	m.containers.mu.Unlock()
	if known {
		return nil
	}
	there, err := m.nameRecord(ctx, network, endpoint, names)
	if err != nil {
		return err
	}
	m.containers.mu.Lock()
	if there {
		m.containers.named[endpoint] = names
	}
	m.containers.mu.Unlock()
	return nil
}
