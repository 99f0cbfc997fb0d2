// Package view is what one host has read of the cluster's records, as far as it can
// be used.
//
// Records are input: whoever can write to the store can write nonsense. A change of
// a table comes in, is checked (record.go), and the networks that it concerns come out.
// A record that cannot be used is left out and counted (bad.go); what was read of it
// before stays. The loop of package reconcile plans with what is in view.
package view

import (
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// View is for one goroutine, but for Attached. Its methods that take in a change return the networks
// that the change concerns.
type View struct {
	self  fabric.Host
	state fabric.State
	// mu guards changes of state.Networks and attachments, which Attached reads.
	mu          sync.RWMutex
	attachments map[string]records.Attachment // by Docker's NetworkID
	// own are this host's endpoints, by network and ID.
	own map[string]map[string]fabric.Endpoint
	// on counts the endpoints in view by network and host.
	on      map[string]map[string]int
	changes map[string]*changes                // of the networks that are applied
	owners  map[string]owners                  // by network
	blocks  map[string]map[string]fabric.Block // of routed networks, by network and key
	holders map[string]map[string]bool         // hosts with blocks, by network
	bad     *badRecords
	// held are the networks whose record went wrong under this host's endpoints.
	held map[string]*heldNetwork

	// gone are endpoints of this host that went since Holdings was asked.
	gone []fabric.Endpoint

	hostsRead, networksRead, attachmentsRead bool
}

// New makes a View without any records, which reports to board what of them cannot
// be used.
func New(self fabric.Host, board *health.Board) *View {
	return &View{
		self: self,
		state: fabric.State{
			Hosts:     map[string]fabric.Host{self.Name: self},
			Networks:  map[string]fabric.Network{},
			Endpoints: map[string]map[string]fabric.Endpoint{},
			Attached:  map[string]bool{},
			Blocks:    map[string][]fabric.Block{},
		},
		attachments: map[string]records.Attachment{},
		own:         map[string]map[string]fabric.Endpoint{},
		on:          map[string]map[string]int{},
		changes:     map[string]*changes{},
		owners:      map[string]owners{},
		blocks:      map[string]map[string]fabric.Block{},
		holders:     map[string]map[string]bool{},
		bad:         newBadRecords(board),
		held:        map[string]*heldNetwork{},
	}
}

// Synced says that all tables were read once: before that, nothing is planned.
func (v *View) Synced() bool { return v.hostsRead && v.networksRead && v.attachmentsRead }

// HostsChanged concerns the networks that a changed host has endpoints or blocks of; all,
// when there is a new MTU in the cluster or one is gone.
func (v *View) HostsChanged(c kvstore.Change[fabric.Host]) []string {
	concerned := make(map[string]bool)
	for name, err := range c.Bad {
		v.bad.note(records.HostKey(name), err)
	}
	for name, host := range c.Put {
		host, err := v.usable(name, host)
		v.bad.note(records.HostKey(name), err)
		if host.Name == "" || name == v.self.Name {
			continue
		}
		if old := v.state.Hosts[name]; old.VTEP != host.VTEP || old.Ends != host.Ends {
			maps.Copy(concerned, v.networksOf(name))
		}
		v.state.Hosts[name] = host
	}
	for _, name := range c.Gone {
		v.bad.note(records.HostKey(name), nil)
		if name != v.self.Name {
			maps.Copy(concerned, v.networksOf(name))
			delete(v.state.Hosts, name)
		}
	}
	before := v.state.Frames
	v.state.Frames = fabric.FramesOf(v.state.Hosts)
	if !v.hostsRead || !maps.Equal(v.state.Frames, before) {
		v.hostsRead = true
		clear(v.changes)
		return v.Needed()
	}
	return v.whole(concerned)
}

// NetworksChanged concerns the networks that changed.
func (v *View) NetworksChanged(c kvstore.Change[fabric.Network]) []string {
	v.networksRead = true
	var concerned []string
	for id, err := range c.Bad {
		v.bad.note(records.NetworkKey(id), err)
	}
	for id, network := range c.Put {
		err := checkNetwork(id, network)
		v.bad.note(records.NetworkKey(id), err)
		if err == nil && v.takeNetwork(id, &network) {
			concerned = append(concerned, id)
		}
	}
	for _, id := range c.Gone {
		v.bad.note(records.NetworkKey(id), nil)
		if v.takeNetwork(id, nil) {
			concerned = append(concerned, id)
		}
	}
	return concerned
}

// AttachmentsChanged concerns the networks that were attached or detached.
func (v *View) AttachmentsChanged(c kvstore.Change[records.Attachment]) []string {
	v.attachmentsRead = true
	concerned := make(map[string]bool)
	for id, err := range c.Bad {
		v.bad.note(records.AttachmentKey(v.self.Name, id), err)
	}
	touch := func(dockerID string) {
		if attachment, known := v.attachments[dockerID]; known {
			concerned[attachment.Network] = true
		}
	}
	for dockerID, attachment := range c.Put {
		v.bad.note(records.AttachmentKey(v.self.Name, dockerID), nil)
		touch(dockerID)
		v.mu.Lock()
		v.attachments[dockerID] = attachment
		v.mu.Unlock()
		touch(dockerID)
	}
	for _, dockerID := range c.Gone {
		v.bad.note(records.AttachmentKey(v.self.Name, dockerID), nil)
		touch(dockerID)
		v.mu.Lock()
		delete(v.attachments, dockerID)
		v.mu.Unlock()
	}
	v.state.Attached = make(map[string]bool, len(v.attachments))
	v.state.Forced = make(map[string]bool)
	for _, attachment := range v.attachments {
		v.state.Attached[attachment.Network] = true
		v.state.Forced[attachment.Network] = v.state.Forced[attachment.Network] || attachment.Force
	}
	return v.whole(concerned)
}

// Attached gives the network behind a Docker network of this host, where both records
// are in view. Any goroutine may ask.
func (v *View) Attached(dockerID string) (fabric.Network, records.Attachment, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	attachment, attached := v.attachments[dockerID]
	network, known := v.state.Networks[attachment.Network]
	return network, attachment, attached && known
}

// EndpointsChanged takes in a change of one network's endpoints. It says whether they
// are others than before.
func (v *View) EndpointsChanged(network string, c kvstore.Change[fabric.Endpoint]) (changed bool) {
	if v.state.Endpoints[network] == nil {
		v.state.Endpoints[network] = map[string]fabric.Endpoint{}
	}
	for id, err := range c.Bad {
		v.bad.note(records.EndpointKey(network, id), err)
	}
	for id, endpoint := range c.Put {
		err := checkEndpoint(network, id, endpoint)
		v.bad.note(records.EndpointKey(network, id), err)
		if before, known := v.Endpoint(network, id); err != nil || known && reflect.DeepEqual(before, endpoint) {
			continue
		}
		changed = true
		v.dropEndpoint(network, id)
		v.addEndpoint(endpoint)
	}
	for _, id := range c.Gone {
		v.bad.note(records.EndpointKey(network, id), nil)
		if own, ok := v.own[network][id]; ok {
			v.gone = append(v.gone, own)
		}
		if _, known := v.Endpoint(network, id); known {
			changed = true
			v.dropEndpoint(network, id)
		}
	}
	if len(v.own[network]) == 0 {
		v.unhold(network)
	}
	return changed
}

// Hosts gives all hosts, by name. They are the caller's to read until the next change.
func (v *View) Hosts() map[string]fabric.Host { return v.state.Hosts }

// Endpoint gives one endpoint of a network in view.
func (v *View) Endpoint(network, id string) (fabric.Endpoint, bool) {
	endpoint, ok := v.state.Endpoints[network][id]
	return endpoint, ok
}

// Network gives a network, its ID alone where its record is not in view.
func (v *View) Network(id string) fabric.Network {
	if network, ok := v.state.Networks[id]; ok {
		return network
	}
	return fabric.Network{ID: id}
}

// Unfollowed drops the endpoints of a network.
func (v *View) Unfollowed(network string) {
	for id := range v.state.Endpoints[network] {
		v.dropEndpoint(network, id)
	}
	delete(v.state.Endpoints, network)
	delete(v.owners, network)
	delete(v.changes, network)
	v.bad.forget(records.NetworkEndpoints(network))
}

// Segment plans one network; false says that this host does not need it.
func (v *View) Segment(id string) (fabric.Segment, bool) {
	return v.plan(id, v.state.Endpoints[id])
}

// Local is segment without what other hosts have.
func (v *View) Local(id string) (fabric.Segment, bool) { return v.plan(id, v.own[id]) }

func (v *View) plan(id string, endpoints map[string]fabric.Endpoint) (fabric.Segment, bool) {
	network, known := v.state.Networks[id]
	if !known {
		return fabric.Segment{}, false
	}
	one := v.state
	one.Networks = map[string]fabric.Network{id: network}
	one.Endpoints = map[string]map[string]fabric.Endpoint{id: endpoints}
	segments := fabric.Plan(one, v.self.Name)
	if len(segments) == 0 {
		return fabric.Segment{}, false
	}
	return segments[0], true
}

// Needed are the networks that this host needs, sorted.
func (v *View) Needed() []string {
	ids := make(map[string]bool)
	for id := range v.own {
		ids[id] = true
	}
	for id := range v.state.Attached {
		if v.state.Networks[id].Mode == fabric.ModeUnderlay {
			ids[id] = true // its bridge stays while containers come and go
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// NeededBy are those of them that a mode's plane applies.
func (v *View) NeededBy(mode fabric.Mode) []string {
	return slices.DeleteFunc(v.Needed(), func(id string) bool { return v.state.Networks[id].Mode != mode })
}

// Wanted are the local parts of the segments that a mode's plane keeps.
func (v *View) Wanted(mode fabric.Mode) []fabric.Segment {
	var keep []fabric.Segment
	for _, id := range v.NeededBy(mode) {
		if segment, ok := v.Local(id); ok {
			keep = append(keep, segment)
		}
	}
	return keep
}

// Unknown gives a network that this host has endpoints on and no record of.
func (v *View) Unknown() (string, bool) {
	for _, id := range slices.Sorted(maps.Keys(v.own)) {
		if _, known := v.state.Networks[id]; !known {
			return id, true
		}
	}
	return "", false
}

// HasOwn says whether this host has an endpoint on network.
func (v *View) HasOwn(network string) bool { return len(v.own[network]) > 0 }

// Holdings are what one host has in the cluster.
type Holdings struct {
	Networks  map[string]fabric.Network // that its Docker has, by ID
	Endpoints map[string]bool           // the IDs of its endpoints
	Gone      []fabric.Endpoint         // those that went since the question before
}

// Holdings are what this host has.
func (v *View) Holdings() Holdings {
	h := Holdings{Networks: make(map[string]fabric.Network), Endpoints: make(map[string]bool), Gone: v.gone}
	v.gone = nil
	for id := range v.state.Attached {
		if network, known := v.state.Networks[id]; known {
			h.Networks[id] = network
		}
	}
	for _, endpoints := range v.own {
		for id := range endpoints {
			h.Endpoints[id] = true
		}
	}
	return h
}

// Report brings the Board up to date with what cannot be used. It is called often;
// with all, which is rare, the numbers of what was reported before are renewed.
func (v *View) Report(all bool) {
	v.bad.report(all)
	v.reportHeld()
}
