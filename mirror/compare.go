package mirror

import (
	"maps"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// view is what the records and the engine hold at one time.
type view struct {
	networks    map[string]fabric.Network     // by ID
	attachments map[string]kvstore.Attachment // of this host, by Docker's NetworkID
	local       []network.Network
	// lost are attachments whose network the engine has not had for a while.
	lost map[string]bool
}

// step is one thing to do. The kind says which of the fields it is about.
type step struct {
	kind    stepKind
	local   network.Network
	cluster fabric.Network
	// dockerID is that of a lost attachment.
	dockerID string
}

type stepKind int

const (
	// adopt adds to the record what the engine alone knows of its network.
	adopt stepKind = iota
	// remove takes a network out of the engine that the cluster no longer has.
	remove
	// create makes a network of the cluster in the engine.
	create
	// settle notes that the engine has a network that the mirror made.
	settle
	// untie drops an attachment whose network the engine no longer has.
	untie
)

// about names what the step concerns, for the list of troubles.
func (s step) about() string {
	switch s.kind {
	case create:
		return "create " + s.cluster.ID
	case untie:
		return "untie " + s.dockerID
	}
	return "local " + s.local.ID
}

// compare gives the steps that are missing, in an order that frees names before
// they are taken. Networks of the engine that have no attachment are not ours.
func compare(v view) []step {
	var steps []step
	tied := make(map[string]bool)
	here := make(map[string]bool, len(v.local))
	for _, local := range v.local {
		here[local.ID] = true
		attachment, ours := v.attachments[local.ID]
		if !ours {
			continue
		}
		tied[attachment.Network] = true
		cluster, known := v.networks[attachment.Network]
		switch {
		case !known && local.Scope == "swarm": // the swarm removes it
		case !known:
			steps = append(steps, step{kind: remove, local: local, cluster: fabric.Network{ID: attachment.Network}})
		case cluster.Name == "":
			steps = append(steps, step{kind: adopt, local: local, cluster: cluster})
		case attachment.Pending:
			steps = append(steps, step{kind: settle, local: local, cluster: cluster})
		}
	}
	for _, dockerID := range slices.Sorted(maps.Keys(v.attachments)) {
		switch {
		case here[dockerID]:
		case v.lost[dockerID]:
			steps = append(steps, step{kind: untie, dockerID: dockerID})
		default: // being created, or being removed
			tied[v.attachments[dockerID].Network] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.networks)) {
		if cluster := v.networks[id]; cluster.Name != "" && !cluster.Swarm && !tied[id] {
			steps = append(steps, step{kind: create, cluster: cluster})
		}
	}
	return steps
}
