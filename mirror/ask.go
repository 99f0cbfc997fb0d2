package mirror

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// answerTime bounds what handlers ask: they have to answer Docker in time.
const answerTime = 2 * time.Second

// HasEndpoint says whether the engine still lists the endpoint on its network.
func (m *Mirror) HasEndpoint(ctx context.Context, dockerID, endpoint string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	endpoints, err := m.engine.Endpoints(ctx, dockerID)
	if err != nil {
		return false, fmt.Errorf("endpoints of network %.12s in the engine: %w", dockerID, err)
	}
	_, known := endpoints[endpoint]
	return known, nil
}

// Configured says whether a container of this engine, a stopped one included, is
// configured for the engine's network dockerID. One that never ran knows it by its
// name alone.
func (m *Mirror) Configured(ctx context.Context, dockerID, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	found, err := m.engine.Containers(ctx, make(client.Filters).Add("network", dockerID, name))
	if err != nil {
		return false, fmt.Errorf("containers of network %.12s in the engine: %w", dockerID, err)
	}
	return len(found) > 0, nil
}

// Name has the cluster know the engine's network dockerID, which is its network id, by its
// name; nothing is done where the engine does not list it. The error is
// [records.ErrNameTaken] where another network has the name.
func (m *Mirror) Name(ctx context.Context, dockerID, id string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	networks, err := m.engine.Networks(ctx)
	if err != nil {
		return fmt.Errorf("name of network %.12s in the engine: %w", dockerID, err)
	}
	for _, local := range networks {
		if local.ID == dockerID {
			return m.name(ctx, id, local)
		}
	}
	return nil
}

// PutBack waits until the networks that were removed here a moment ago are back.
// The engine does not tell the driver the name of a network that it creates. But
// from 25.0 on, a network that cannot be put back while the driver answers
// CreateNetwork is one of the very name that is being created: the error says that
// it is the cluster's. Older engines would have two of the name: there, any
// creation in that moment is refused.
func (m *Mirror) PutBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for id, done := range m.putBacks.want() {
		m.kick()
		select {
		case <-done:
			if m.engine.LocksNames() {
				continue
			}
			err := m.inCluster(ctx, id)
			if err != nil {
				return fmt.Errorf("%w; one of another name can be created now", err)
			}
		case <-ctx.Done():
			return m.inCluster(context.WithoutCancel(ctx), id)
		}
	}
	return nil
}

// want asks for all removed networks at once, and tells when each is done.
func (b *putBacks) want() map[string]<-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	wanted := make(map[string]<-chan struct{}, len(b.pending))
	for id, removal := range b.pending {
		removal.wanted = true
		wanted[id] = removal.done
	}
	return wanted
}

// inCluster is the error of who creates a network that the cluster has.
func (m *Mirror) inCluster(ctx context.Context, id string) error {
	cluster, known := m.networks.Get(id)
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	users, err := m.users(ctx, cluster)
	if err != nil {
		return fmt.Errorf("network %s was removed here and is not put back yet: %w", cluster.Name, err)
	}
	if len(users) == 0 {
		return nil
	}
	return fmt.Errorf("network %s exists in the cluster with subnet %s, in use on %s: it can be created with other settings when no container is configured for it there",
		cluster.Name, subnetsOf(cluster), strings.Join(users, ", "))
}
