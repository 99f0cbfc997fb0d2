// Package backup keeps a copy of this host's own records in --data-dir, and puts
// it back into a store that has lost them: an empty one, or one that was restored
// from an older backup.
//
// A [Store] stands between the store and all that use it. What passes through it
// when they follow the records is noted: this host's attachments, their networks,
// and this host's endpoints; a second later it is in the file. When the host is
// started on another store than the one the copy is of (--store-reset), everything
// that the store lacks is created again from the copy before anybody else reads
// or writes there: an empty store must not pass for a cluster without networks.
package backup

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/statefile"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Config is what a Store is made of.
type Config struct {
	// Host is this host's key, and Mirror says that its mirror runs.
	Host   string
	Mirror bool
	// Path is the file of the copy.
	Path  string
	Board *health.Board
}

// Identified is a store that knows its ID.
type Identified interface {
	kvstore.Store
	// ID is empty until the store has answered.
	ID() string
}

// Store is a [kvstore.Store] whose records of this host have a copy.
type Store struct {
	Config
	store Identified
	// ready is closed when the store has this host's records.
	ready   chan struct{}
	changed chan struct{}

	mu   sync.Mutex // guards copy
	copy Copy
}

var _ kvstore.Store = (*Store)(nil)

// Copy is what the file has.
type Copy struct {
	// Store is the ID of the store that it was copied from.
	Store string `json:"store"`
	// Attachments are this host's, by Docker's NetworkID.
	Attachments map[string]records.Attachment `json:"attachments"`
	// Networks are by ID. In memory they are all of the cluster's, in the file those attached.
	Networks map[string]fabric.Network `json:"networks"`
	// Endpoints are this host's, by network and ID.
	Endpoints map[string]map[string]fabric.Endpoint `json:"endpoints"`
}

func newCopy(store string) Copy {
	return Copy{
		Store: store, Attachments: map[string]records.Attachment{},
		Networks: map[string]fabric.Network{}, Endpoints: map[string]map[string]fabric.Endpoint{},
	}
}

// Open reads the copy. All calls wait until Run has seen that the store is the one
// that it was copied from, or has put it back.
func Open(store Identified, config Config) (*Store, error) {
	file, err := statefile.Read[Copy](config.Path)
	if err != nil {
		return nil, fmt.Errorf("the copy of this host's records: %w", err)
	}
	s := &Store{Config: config, store: store, ready: make(chan struct{}), changed: make(chan struct{}, 1), copy: newCopy(file.Store)}
	maps.Copy(s.copy.Attachments, file.Attachments)
	maps.Copy(s.copy.Networks, file.Networks)
	maps.Copy(s.copy.Endpoints, file.Endpoints)
	if s.copy.Store == "" {
		close(s.ready)
	}
	return s, nil
}

// Run puts back what the store has lost, and then keeps the copy until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	select {
	case <-s.ready:
	default:
		s.restore(ctx)
	}
	const together = time.Second // a burst of changes is one write
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
		select {
		case <-ctx.Done():
		case <-time.After(together):
		}
		err := s.write()
		if err != nil {
			err = fmt.Errorf("keep a copy of this host's records: %w", err)
		}
		s.Board.Report(health.Scope{Part: health.Store, Object: "copy"}, err)
	}
}

// write writes the file, with the networks that are attached here.
func (s *Store) write() error {
	kept := newCopy(s.store.ID())
	s.mu.Lock()
	maps.Copy(kept.Attachments, s.copy.Attachments)
	for _, attachment := range kept.Attachments {
		id := attachment.Network
		if network, known := s.copy.Networks[id]; known {
			kept.Networks[id] = network
			kept.Endpoints[id] = maps.Clone(s.copy.Endpoints[id])
		}
	}
	s.mu.Unlock()
	return statefile.Write(s.Path, kept)
}

// note takes in what a Follow of prefix has handed over; first says that it is all.
func (s *Store) note(prefix string, snapshot kvstore.Snapshot, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	network, ofEndpoints := strings.CutPrefix(prefix, records.EndpointsPrefix)
	switch {
	case prefix == records.HostAttachments(s.Host):
		changed = merge(s.copy.Attachments, prefix, snapshot, first, func(records.Attachment) bool { return true })
	case prefix == records.NetworksPrefix:
		changed = merge(s.copy.Networks, prefix, snapshot, first, func(fabric.Network) bool { return true })
	case ofEndpoints && network != "":
		network = strings.TrimSuffix(network, "/")
		if s.copy.Endpoints[network] == nil {
			s.copy.Endpoints[network] = map[string]fabric.Endpoint{}
		}
		changed = merge(s.copy.Endpoints[network], prefix, snapshot, first, func(e fabric.Endpoint) bool { return e.Host == s.Host })
	}
	if !changed {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default: // Run knows already
	}
}

// merge brings what changed below prefix into table, and says whether that was
// anything that is wanted. A record that cannot be decoded stays as it was.
func merge[T any](table map[string]T, prefix string, snapshot kvstore.Snapshot, first bool, wanted func(T) bool) bool {
	changed := first
	if first {
		maps.DeleteFunc(table, func(key string, _ T) bool { _, there := snapshot.Items[prefix+key]; return !there })
	}
	for _, key := range snapshot.Changed {
		name := strings.TrimPrefix(key, prefix)
		_, had := table[name]
		item, there := snapshot.Items[key]
		value, err := kvstore.Decode[T](item)
		switch {
		case !there || err == nil && !wanted(value):
			delete(table, name)
			changed = changed || had
		case err == nil:
			table[name] = value
			changed = true
		}
	}
	return changed
}
