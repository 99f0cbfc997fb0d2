package mirror

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/internal/health"
)

// containers are the engine's containers and the networks that each is configured
// for. An event of a container has that one looked at again; all are listed when
// the stream of events begins. Safe for concurrent use.
type containers struct {
	mu     sync.Mutex                       // guards all below
	known  map[string]map[string]attachedTo // by container, then by network name
	listed bool                             // known is complete
	newer  map[string]bool                  // containers that were learnt since the last list was asked for
	todo   todo
	// configured says whether a network's record has it that containers are
	// configured for the network; by Docker's NetworkID.
	configured map[string]bool

	wake    chan struct{} // there is something in todo
	recount chan struct{} // known was changed
}

// todo is what is to be learnt.
type todo struct {
	list, lookAtAll bool
	look            map[string]bool // by container
}

// attachedTo is what a container has on a network. IDs are empty until it runs.
type attachedTo struct {
	dockerID, endpoint string
	named              []string // the names that the endpoint's record has
}

func newContainers() *containers {
	return &containers{
		known: make(map[string]map[string]attachedTo), todo: todo{look: make(map[string]bool)}, configured: make(map[string]bool),
		wake: make(chan struct{}, 1), recount: make(chan struct{}, 1),
	}
}

// changed has a container looked at.
func (c *containers) changed(id string) {
	c.mu.Lock()
	c.todo.look[id] = true
	c.mu.Unlock()
	signal(c.wake)
}

// relist has all containers listed; with look, because events may have been
// missed, each is looked at.
func (c *containers) relist(look bool) {
	c.mu.Lock()
	c.todo.list = true
	c.todo.lookAtAll = c.todo.lookAtAll || look
	c.mu.Unlock()
	signal(c.wake)
}

// attached has the containers on networks looked at whose attachment changed.
func (c *containers) attached(dockerIDs []string) {
	c.mu.Lock()
	for _, dockerID := range dockerIDs {
		delete(c.configured, dockerID)
	}
	for id, networks := range c.known {
		for _, on := range networks {
			if on.endpoint != "" && slices.Contains(dockerIDs, on.dockerID) {
				c.todo.look[id] = true
			}
		}
	}
	c.mu.Unlock()
	signal(c.wake)
	signal(c.recount)
}

// take gives what is to be learnt.
func (c *containers) take() todo {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.todo
	c.todo = todo{look: make(map[string]bool)}
	if taken.list {
		c.newer = make(map[string]bool)
	}
	return taken
}

// set learns a container's networks; nil: the container is gone.
func (c *containers) set(id string, networks map[string]attachedTo) {
	c.mu.Lock()
	c.keepNames(id, networks)
	c.known[id] = networks
	if networks == nil {
		delete(c.known, id)
	}
	if c.newer != nil {
		c.newer[id] = true
	}
	c.mu.Unlock()
	signal(c.recount)
}

// setAll learns a list of all containers. What was learnt of single ones since it
// was asked for is newer.
func (c *containers) setAll(known map[string]map[string]attachedTo) {
	c.mu.Lock()
	for id, networks := range known {
		c.keepNames(id, networks)
	}
	for id := range c.newer {
		delete(known, id)
		if networks, there := c.known[id]; there {
			known[id] = networks
		}
	}
	c.known, c.listed, c.newer = known, true, nil
	c.mu.Unlock()
	signal(c.recount)
}

// keepNames keeps the names of endpoints that stay. It needs the lock.
func (c *containers) keepNames(id string, networks map[string]attachedTo) {
	for name, on := range networks {
		if before := c.known[id][name]; on.endpoint == before.endpoint {
			on.named = before.named
			networks[name] = on
		}
	}
}

// hasNames says whether the record of a container's endpoint has these names.
func (c *containers) hasNames(id, network string, names []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Equal(c.known[id][network].named, names)
}

// setNames notes the names that the record of a container's endpoint has.
func (c *containers) setNames(id, network string, names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on, known := c.known[id][network]; known {
		on.named = names
		c.known[id][network] = on
	}
}

// followContainers looks at containers as they change. Each is looked at in a
// goroutine of its own: while a container starts, the engine answers no question
// about it.
func (m *Mirror) followContainers(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	busy := make(map[string]chan struct{}) // closed when a look ends
	slots := make(chan struct{}, 16)       // looks at one time
	for {
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-m.containers.wake:
		}
		todo := m.containers.take()
		if todo.list {
			listed, err := m.listContainers(ctx)
			if err != nil {
				group.Go(func() error { return m.later(ctx, func() { m.containers.relist(todo.lookAtAll) }) })
			}
			for _, id := range listed {
				todo.look[id] = todo.look[id] || todo.lookAtAll
			}
		}
		for id, done := range busy {
			select {
			case <-done:
				delete(busy, id)
			default:
			}
		}
		for id, wanted := range todo.look {
			if !wanted {
				continue
			}
			before, done := busy[id], make(chan struct{})
			busy[id] = done
			group.Go(func() error {
				defer close(done)
				if before != nil {
					<-before // looks at one container are in order
				}
				slots <- struct{}{}
				err := m.look(ctx, id)
				<-slots
				m.Board.Report(health.Scope{Part: health.Containers, Object: id}, err)
				if err != nil && ctx.Err() == nil {
					group.Go(func() error { return m.later(ctx, func() { m.containers.changed(id) }) })
				}
				return nil
			})
		}
	}
}

// later calls again after a pause.
func (m *Mirror) later(ctx context.Context, again func()) error {
	if err := pause(ctx, retryAfter); err == nil {
		again()
	}
	return nil
}

// listContainers learns all containers and returns their IDs.
func (m *Mirror) listContainers(ctx context.Context) (ids []string, err error) {
	found, err := m.engine.Containers(ctx, nil)
	if err != nil {
		return nil, err
	}
	known := make(map[string]map[string]attachedTo, len(found))
	for _, summary := range found {
		networks := make(map[string]*network.EndpointSettings)
		if summary.NetworkSettings != nil {
			networks = summary.NetworkSettings.Networks
		}
		known[summary.ID] = networksOf(networks)
		ids = append(ids, summary.ID)
	}
	for _, part := range []health.Part{health.Containers, health.Restart} {
		m.Board.Retain(part, func(id string) bool { return known[id] != nil })
	}
	m.containers.setAll(known)
	return ids, nil
}

// configuredFor says whether a container is configured for the network of a name.
func (c *containers) configuredFor(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, networks := range c.known {
		if _, configured := networks[name]; configured {
			return true
		}
	}
	return false
}

func networksOf(settings map[string]*network.EndpointSettings) map[string]attachedTo {
	networks := make(map[string]attachedTo, len(settings))
	for name, on := range settings {
		if on != nil {
			networks[name] = attachedTo{dockerID: on.NetworkID, endpoint: on.EndpointID}
		}
	}
	return networks
}
