package mirror

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/records"
)

// state is what the records and the engine hold at one time.
type state struct {
	networks    map[string]fabric.Network     // by ID
	attachments map[string]records.Attachment // of this host, by Docker's NetworkID
	local       []network.Network             // the engine's
	// lost are attachments whose network the engine has not had for a while.
	lost map[string]bool
	// stray are networks of the engine that are the cluster's and have had no
	// attachment for a while.
	stray map[string]bool
	// removed are the cluster's networks that were removed from this engine.
	removed map[string]bool
	// driver is the name under which the engine finds causeway.
	driver string
}

// step is one thing to do. The kind says which of the fields it uses.
type step struct {
	kind    stepKind
	local   network.Network
	cluster fabric.Network
	// dockerID is that of a lost attachment.
	dockerID string
}

type stepKind int

const (
	// adopt adds to the record what only the engine knows of its network.
	adopt stepKind = iota
	// remove removes a network from the engine that the cluster no longer has.
	remove
	// create creates a network of the cluster in the engine.
	create
	// putBack creates one again that was removed here while others use it.
	putBack
	// settle notes that the engine has a network that the mirror created.
	settle
	// detach deletes an attachment whose network the engine no longer has.
	detach
	// reattach attaches a network of the engine again: this host was released.
	reattach
)

// scope is what a fault of the step is about.
func (s step) scope() health.Scope {
	object := s.local.ID
	switch s.kind {
	case create, putBack:
		object = s.cluster.ID
	case detach:
		object = s.dockerID
	}
	return health.Scope{Part: health.Mirror, Object: object}
}

// compare gives the steps that are missing, in an order that frees names before
// they are taken. A network of the engine that has no attachment is not ours,
// unless it shows that it is the cluster's.
func compare(s state) []step {
	var steps []step
	attached := make(map[string]bool) // the cluster's networks that the engine has
	here := make(map[string]bool, len(s.local))
	for _, local := range s.local {
		here[local.ID] = true
		attachment, ours := s.attachments[local.ID]
		if !ours {
			if step, needed := s.repairStray(local, attached); needed {
				steps = append(steps, step)
			}
			continue
		}
		attached[attachment.Network] = true
		cluster, known := s.networks[attachment.Network]
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
	for _, dockerID := range slices.Sorted(maps.Keys(s.attachments)) {
		switch {
		case here[dockerID]:
		case s.lost[dockerID]:
			steps = append(steps, step{kind: detach, dockerID: dockerID})
		default: // being created, or being removed
			attached[s.attachments[dockerID].Network] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.networks)) {
		cluster := s.networks[id]
		if cluster.Name == "" || cluster.Swarm || attached[id] {
			continue
		}
		if s.removed[id] {
			steps = append(steps, step{kind: putBack, cluster: cluster})
		} else {
			steps = append(steps, step{kind: create, cluster: cluster})
		}
	}
	return steps
}

// repairStray gives the step for a network without an attachment, if it needs one,
// and notes in attached that the engine has its cluster network.
func (s state) repairStray(local network.Network, attached map[string]bool) (step, bool) {
	id, ours := s.clusterOf(local)
	if !ours {
		return step{}, false
	}
	cluster, known := s.networks[id]
	if known {
		attached[id] = true
	}
	switch {
	case !s.stray[local.ID]: // the engine is removing or creating it
		return step{}, false
	case known:
		return step{kind: reattach, local: local, cluster: cluster}, true
	default:
		return step{kind: remove, local: local, cluster: fabric.Network{ID: id}}, true
	}
}

// clusterOf tells which cluster network one of the engine is that has no
// attachment. One that a mirror created names it in an option. On the host where
// it was first created, the cluster's ID is the start of the engine's, which is
// proof only while the cluster has it. The driver may have any plugin's name.
func (s state) clusterOf(local network.Network) (string, bool) {
	if local.Scope == "swarm" {
		return "", false
	}
	id, mirrored := strings.CutPrefix(local.Options[fabric.OptionNetwork], fabric.NetworkIDPrefix)
	if !mirrored {
		id = local.ID[:min(len(local.ID), 12)]
	}
	_, known := s.networks[id]
	return id, known || mirrored && local.Driver == s.driver
}
