package containers

import (
	"slices"
	"sync"

	"github.com/moby/moby/api/types/network"
)

// known is what is known of the engine's containers. Safe for concurrent use.
type known struct {
	mu       sync.Mutex                       // guards all below
	networks map[string]map[string]connection // by container, then by network name
	listed   bool                             // networks has all containers
	newer    map[string]bool                  // containers that were inspected since the last list was requested
	// configured says whether a network's record has it that containers are
	// configured for the network; by Docker's NetworkID.
	configured map[string]bool

	changed chan struct{} // signals a change of networks, or of attachments
}

// connection is a container's to a network. IDs are empty until it runs.
type connection struct {
	dockerID, endpoint string
	named              []string // the names that the endpoint's record has
}

func newKnown() *known {
	return &known{
		networks: make(map[string]map[string]connection), configured: make(map[string]bool), changed: make(chan struct{}, 1),
	}
}

// set takes in a container's networks; nil: the container is gone.
func (k *known) set(id string, networks map[string]connection) {
	k.mu.Lock()
	k.keepNames(id, networks)
	k.networks[id] = networks
	if networks == nil {
		delete(k.networks, id)
	}
	if k.newer != nil {
		k.newer[id] = true
	}
	k.mu.Unlock()
	signal(k.changed)
}

// listing notes that a list of all containers is requested now.
func (k *known) listing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newer = make(map[string]bool)
}

// setAll takes in a list of all containers. What was inspected since it was requested is
// newer.
func (k *known) setAll(listed map[string]map[string]connection) {
	k.mu.Lock()
	for id, networks := range listed {
		k.keepNames(id, networks)
	}
	for id := range k.newer {
		delete(listed, id)
		if networks, there := k.networks[id]; there {
			listed[id] = networks
		}
	}
	k.networks, k.listed, k.newer = listed, true, nil
	k.mu.Unlock()
	signal(k.changed)
}

// keepNames keeps the names of endpoints that stay. It needs the lock.
func (k *known) keepNames(id string, networks map[string]connection) {
	for name, on := range networks {
		if before := k.networks[id][name]; on.endpoint == before.endpoint {
			on.named = before.named
			networks[name] = on
		}
	}
}

// on gives the running containers on the engine's networks, whose attachments changed:
// what their records have is no longer known.
func (k *known) on(dockerIDs []string) (ids []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, dockerID := range dockerIDs {
		delete(k.configured, dockerID)
	}
	for id, networks := range k.networks {
		for _, on := range networks {
			if on.endpoint != "" && slices.Contains(dockerIDs, on.dockerID) {
				ids = append(ids, id)
				break
			}
		}
	}
	return ids
}

// hasNames says whether the record of a container's endpoint has these names.
func (k *known) hasNames(id, network string, names []string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Equal(k.networks[id][network].named, names)
}

// setNames notes the names that the record of a container's endpoint has.
func (k *known) setNames(id, network string, names []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if on, known := k.networks[id][network]; known {
		on.named = names
		k.networks[id][network] = on
	}
}

func (k *known) configuredFor(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, networks := range k.networks {
		if _, configured := networks[name]; configured {
			return true
		}
	}
	return false
}

func networksOf(settings map[string]*network.EndpointSettings) map[string]connection {
	networks := make(map[string]connection, len(settings))
	for name, on := range settings {
		if on != nil {
			networks[name] = connection{dockerID: on.NetworkID, endpoint: on.EndpointID}
		}
	}
	return networks
}
