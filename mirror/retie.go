package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// rememberStrays finds the networks of the engine that are of the cluster and
// have had no attachment for longer than a removal takes: this host was released
// while it was away, and has come back.
func (m *Mirror) rememberStrays(v view) {
	strays := make(map[string]time.Time)
	for _, local := range v.local {
		if _, attached := v.attachments[local.ID]; attached {
			continue
		}
		if _, ours := v.clusterOf(local); !ours {
			continue
		}
		since, known := m.strays[local.ID]
		if !known {
			since = time.Now()
		}
		strays[local.ID] = since
		v.stray[local.ID] = time.Since(since) > settling
	}
	m.strays = strays
}

// retie attaches a network of the engine to the cluster's again.
func (m *Mirror) retie(ctx context.Context, s step) error {
	done, err := records.Records{Store: m.Store, Host: m.Host}.Reattach(ctx, s.cluster.ID, records.Attaching{
		DockerID: s.local.ID, Mirror: true, Attachment: records.Attachment{DockerIPAM: s.local.IPAM.Driver == "default"},
	})
	if err == nil && !done {
		return nil // attached meanwhile, or the network went: what we follow is a little behind
	}
	if err != nil {
		return fmt.Errorf("network %s cannot be tied to the cluster's again: %w", s.local.Name, err)
	}
	m.displaced[s.local.ID] = nil
	m.Log.WithField("network", s.local.Name).Warn("network had lost its tie to the cluster's, as of a host that was released; it is tied again")
	return nil
}

// checkPlaces tells of the running containers whose endpoint the cluster no
// longer has: this host was released, and their link went with their place. It
// looks at all networks after the start, and at those that were tied again.
func (m *Mirror) checkPlaces(ctx context.Context, local *engine, v view) {
	if !m.looked {
		m.looked = true
		for dockerID := range v.attachments {
			m.displaced[dockerID] = nil
		}
	}
	for _, dockerID := range slices.Sorted(maps.Keys(m.displaced)) {
		m.trouble("places "+dockerID+"/", m.checkPlacesOn(ctx, local, v, dockerID))
	}
}

// checkPlacesOn tells of the containers that were without a place before, too:
// one that ends may be so for a moment.
func (m *Mirror) checkPlacesOn(ctx context.Context, local *engine, v view, dockerID string) error {
	attachment, tied := v.attachments[dockerID]
	network, known := v.networks[attachment.Network]
	if v.stray[dockerID] {
		return nil // tied a moment ago: what we follow is a little behind
	}
	if !tied || !known || network.Swarm {
		delete(m.displaced, dockerID)
		return nil
	}
	missing, err := m.withoutPlace(ctx, local, dockerID, attachment.Network)
	if err != nil {
		return err
	}
	var names []string
	for id, name := range missing {
		if _, before := m.displaced[dockerID][id]; before {
			names = append(names, name)
		}
	}
	m.displaced[dockerID] = missing
	if len(missing) == 0 {
		delete(m.displaced, dockerID)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("network %s: these containers lost their place in the cluster, restart them: %s", network.Name, strings.Join(names, ", "))
}

// withoutPlace gives the names of a network's running containers whose endpoint
// is not in the records, by endpoint.
func (m *Mirror) withoutPlace(ctx context.Context, local *engine, dockerID, network string) (map[string]string, error) {
	containers, err := local.containers(ctx, dockerID)
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
