package mirror

import (
	"context"
	"errors"
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// connected notes that a container came to one of the engine's networks.
func (m *Mirror) connected(dockerID string) {
	m.mu.Lock()
	m.unnamed[dockerID] = true
	m.mu.Unlock()
	m.kick()
}

// listening notes that from now on nothing is missed, and what was before may have been.
func (m *Mirror) listening() {
	m.mu.Lock()
	m.unheard = true
	m.mu.Unlock()
	m.kick()
}

// nameEndpoints writes the containers' names into the records of the networks
// that were connected to: engines before 29.0 tell them to no driver.
func (m *Mirror) nameEndpoints(ctx context.Context, local *engine) {
	m.mu.Lock()
	if _, away := m.troubles["engine"]; away {
		m.mu.Unlock()
		return
	}
	todo, attachments := m.unnamed, m.attachments
	m.unnamed = make(map[string]bool)
	if m.unheard && len(m.read) == 2 {
		m.unheard = false
		for dockerID := range attachments {
			todo[dockerID] = true
		}
	}
	m.mu.Unlock()
	for dockerID := range todo {
		attachment, ours := attachments[dockerID]
		if !ours {
			continue
		}
		containers, err := local.containers(ctx, dockerID)
		for id, name := range containers {
			if err == nil && m.named[dockerID][id] != name {
				err = m.nameEndpoint(ctx, attachment.Network, id, name)
			}
		}
		if err == nil {
			m.named[dockerID] = containers
		} else {
			m.mu.Lock()
			m.unnamed[dockerID] = true // with the next look
			m.mu.Unlock()
		}
		m.trouble("names "+dockerID+"/", err)
	}
}

func (m *Mirror) nameEndpoint(ctx context.Context, network, id, name string) error {
	endpoint, item, err := kvstore.Read[fabric.Endpoint](ctx, m.Store, records.EndpointKey(network, id))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil // it is gone again
	}
	if err != nil || endpoint.Name == name {
		return err
	}
	endpoint.Name = name
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Unchanged(item)},
		Then: []kvstore.Op{kvstore.Put(item.Key, endpoint)},
	}
	for _, addr := range endpoint.Addrs {
		if err := m.nameAddress(ctx, network, endpoint, addr.Addr(), &txn); err != nil {
			return err
		}
	}
	if _, err = m.Store.Commit(ctx, txn); errors.Is(err, kvstore.ErrConflict) {
		return nil // it is on its way out
	}
	return err
}

// nameAddress adds the name to the claim, which is what a clash is told from.
func (m *Mirror) nameAddress(ctx context.Context, network string, endpoint fabric.Endpoint, addr netip.Addr, txn *kvstore.Txn) error {
	m.mu.Lock()
	record := m.networks[network]
	m.mu.Unlock()
	for _, subnet := range record.Subnets {
		if !subnet.Prefix.Contains(addr) {
			continue
		}
		claim, item, err := kvstore.Read[records.Address](ctx, m.Store, records.AddressKey(subnet.Pool, addr))
		if err != nil || claim.Endpoint != endpoint.ID {
			return err
		}
		claim.Name = endpoint.Name
		txn.If = append(txn.If, kvstore.Unchanged(item))
		txn.Then = append(txn.Then, kvstore.Put(item.Key, claim))
	}
	return nil
}
