// Package containers follows the containers of the local engine, and writes what only
// the engine knows of them into the records: their names on the cluster's networks, and
// for which networks one is configured.
//
// A container's path: the mirror hears the engine's event and calls
// [Containers.Changed]. The container is inspected in a goroutine of its own (names.go):
// while one starts, the engine answers no question about it. Its networks are kept in
// memory (known.go), its names are written into its endpoints' records, and a restart
// policy that gave up is reported (restart.go). Whether a network has a container, a
// stopped one included, is written when that changes (configured.go). All containers are
// listed when events may have been missed.
package containers

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/mirror/engine"
	"github.com/causeway-net/causeway/mirror/table"
	"github.com/causeway-net/causeway/records"
)

// retryAfter is the pause before a failed task is tried again.
const retryAfter = 2 * time.Second

// Config is what Containers work with; all fields are required.
type Config struct {
	Records     records.Records
	Engine      *engine.Engine
	Networks    *table.Table[fabric.Network]     // by ID
	Attachments *table.Table[records.Attachment] // of this host, by Docker's NetworkID
	Board       *health.Board
}

// Containers are those of one engine. Safe for concurrent use.
type Containers struct {
	Config
	known *known
	todo  *todo
}

// New makes Containers; nothing happens before Run.
func New(config Config) *Containers {
	return &Containers{Config: config, known: newKnown(), todo: newTodo()}
}

// Run follows the containers until ctx ends, and returns ctx's error.
func (c *Containers) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.follow(ctx) })
	group.Go(func() error { return c.keepConfigured(ctx) })
	return group.Wait()
}

// Changed has a container inspected.
func (c *Containers) Changed(id string) { c.todo.add(false, false, id) }

// Relist has all containers listed; with inspect, because events may have been missed,
// each is inspected.
func (c *Containers) Relist(inspect bool) { c.todo.add(true, inspect) }

// AttachmentsChanged has the containers inspected that are on networks whose attachment
// changed, by Docker's NetworkIDs.
func (c *Containers) AttachmentsChanged(dockerIDs []string) {
	c.todo.add(false, false, c.known.on(dockerIDs)...)
	signal(c.known.changed)
}

// ConfiguredFor says whether a container is configured for the network of a name.
func (c *Containers) ConfiguredFor(name string) bool { return c.known.configuredFor(name) }

// follow lists and inspects what is to do.
func (c *Containers) follow(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	busy := make(map[string]chan struct{}) // by container; closed when its inspection ends
	slots := make(chan struct{}, 16)       // inspections at one time
	for {
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-c.todo.wake:
		}
		for id, done := range busy {
			select {
			case <-done:
				delete(busy, id)
			default:
			}
		}
		for id := range c.next(ctx) {
			before, done := busy[id], make(chan struct{})
			busy[id] = done
			group.Go(func() error {
				defer close(done)
				if before != nil {
					<-before // inspections of one container are in order
				}
				slots <- struct{}{}
				err := c.inspect(ctx, id)
				<-slots
				c.Board.Report(health.Scope{Part: health.Containers, Object: id}, err)
				if err != nil && ctx.Err() == nil {
					time.AfterFunc(retryAfter, func() { c.Changed(id) })
				}
				return nil
			})
		}
	}
}

// next lists the containers if that is to do, and gives those to inspect.
func (c *Containers) next(ctx context.Context) map[string]bool {
	list, inspectAll, inspect := c.todo.take(c.known)
	if !list {
		return inspect
	}
	listed, err := c.list(ctx)
	if err != nil {
		time.AfterFunc(retryAfter, func() { c.Relist(inspectAll) })
	}
	for _, id := range listed {
		if inspectAll {
			inspect[id] = true
		}
	}
	return inspect
}

// list reads all containers and returns their IDs.
func (c *Containers) list(ctx context.Context) (ids []string, err error) {
	found, err := c.Engine.Containers(ctx, nil)
	if err != nil {
		return nil, err
	}
	listed := make(map[string]map[string]connection, len(found))
	for _, summary := range found {
		networks := make(map[string]*network.EndpointSettings)
		if summary.NetworkSettings != nil {
			networks = summary.NetworkSettings.Networks
		}
		listed[summary.ID] = networksOf(networks)
		ids = append(ids, summary.ID)
	}
	for _, part := range []health.Part{health.Containers, health.Restart} {
		c.Board.Retain(part, func(id string) bool { return listed[id] != nil })
	}
	c.known.setAll(listed)
	return ids, nil
}

// signal wakes the reader of a channel that holds one signal.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default: // one is waiting already
	}
}
