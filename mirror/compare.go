package mirror

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

// view is what the records and the engine hold at one time.
type view struct {
	networks    map[string]fabric.Network     // by ID
	attachments map[string]records.Attachment // of this host, by Docker's NetworkID
	local       []network.Network
	// lost are attachments whose network the engine has not had for a while.
	lost map[string]bool
	// stray are networks of the engine that have had no attachment for a while,
	// though they are of the cluster.
	stray map[string]bool
	// driver is the name under which the engine finds causeway.
	driver string
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
	// retie attaches a network of the engine again: this host was released.
	retie
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
// they are taken. Networks of the engine that have no attachment are not ours,
// unless they show that they are of the cluster.
func compare(v view) []step {
	var steps []step
	tied := make(map[string]bool)
	here := make(map[string]bool, len(v.local))
	for _, local := range v.local {
		here[local.ID] = true
		attachment, ours := v.attachments[local.ID]
		if !ours {
			if s, needed := v.mendStray(local, tied); needed {
				steps = append(steps, s)
			}
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

// mendStray gives the step for a network without an attachment, if it needs one,
// and notes in tied that the engine has its cluster network.
func (v view) mendStray(local network.Network, tied map[string]bool) (step, bool) {
	id, ours := v.clusterOf(local)
	if !ours {
		return step{}, false
	}
	cluster, known := v.networks[id]
	if known {
		tied[id] = true
	}
	switch {
	case !v.stray[local.ID]: // the engine is removing or making it
		return step{}, false
	case known:
		return step{kind: retie, local: local, cluster: cluster}, true
	default:
		return step{kind: remove, local: local, cluster: fabric.Network{ID: id}}, true
	}
}

// clusterOf tells of which cluster network one of the engine is that has no
// attachment. The mirror's name it in an option; the one that made it has its ID
// from the engine's, which is provable only while the cluster has it. The driver
// may have the name of any plugin.
func (v view) clusterOf(local network.Network) (string, bool) {
	if local.Scope == "swarm" {
		return "", false
	}
	id, mirrored := strings.CutPrefix(local.Options[fabric.OptionNetwork], fabric.NetworkIDPrefix)
	if !mirrored {
		id = local.ID[:min(len(local.ID), 12)]
	}
	_, known := v.networks[id]
	return id, known || mirrored && local.Driver == v.driver
}
