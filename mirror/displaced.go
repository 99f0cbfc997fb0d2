package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// displaced finds running containers whose endpoint the cluster no longer has:
// this host was released, and their link was deleted with their endpoint. It
// looks at all networks after the start, and at those that were reattached. A
// network stays until all its containers have endpoints.
type displaced struct {
	started  bool
	networks map[string]map[string]string // container by endpoint, as of the last look, by Docker's NetworkID
}

// check has a network looked at.
func (d *displaced) check(dockerID string) {
	if d.networks == nil {
		d.networks = make(map[string]map[string]string)
	}
	d.networks[dockerID] = nil
}

func (m *Mirror) checkDisplaced(ctx context.Context, d *displaced, s state) {
	if !d.started {
		d.started = true
		for dockerID := range s.attachments {
			d.check(dockerID)
		}
	}
	for dockerID := range d.networks {
		m.Board.Report(health.Scope{Part: health.Displaced, Object: dockerID}, m.checkDisplacedOn(ctx, d, s, dockerID))
	}
}

// checkDisplacedOn names the containers that had no endpoint at the last look
// either: one that is stopping has none for a moment.
func (m *Mirror) checkDisplacedOn(ctx context.Context, d *displaced, s state, dockerID string) error {
	attachment, attached := s.attachments[dockerID]
	network, known := s.networks[attachment.Network]
	if s.stray[dockerID] {
		return nil // reattached a moment ago: the table is a little behind
	}
	if !attached || !known || network.Swarm {
		delete(d.networks, dockerID)
		return nil
	}
	missing, err := m.withoutEndpoint(ctx, dockerID, attachment.Network)
	if err != nil {
		return err
	}
	var names []string
	for id, name := range missing {
		if _, before := d.networks[dockerID][id]; before {
			names = append(names, name)
		}
	}
	d.networks[dockerID] = missing
	if len(missing) == 0 {
		delete(d.networks, dockerID)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("network %s: these containers lost their place in the cluster, restart them: %s", network.Name, strings.Join(names, ", "))
}

// withoutEndpoint gives the names of a network's running containers whose
// endpoint is not in the records, by endpoint.
func (m *Mirror) withoutEndpoint(ctx context.Context, dockerID, network string) (map[string]string, error) {
	containers, err := m.engine.Endpoints(ctx, dockerID)
	if err != nil {
		return nil, err
	}
	for id := range containers {
		_, err := m.Store.Get(ctx, records.EndpointKey(network, id))
		if err == nil {
			delete(containers, id)
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return nil, err
		}
	}
	return containers, nil
}
