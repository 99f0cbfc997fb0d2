// Package mirror keeps the local Docker engine and the cluster's records in line:
// each network of the cluster appears in the engine, and what only the engine
// knows (names of networks and containers, which containers are configured for a
// network) is written into the records.
//
// A network's path: "docker network create -d causeway foo" on h1 reaches the
// driver, which records it without a name, because engines tell drivers none. The
// mirror of h1 hears the engine's event, reads name, labels and ranges from the
// engine and adds them to the record (adopt.go). The mirrors of the other hosts
// see the record and create foo in their engines, attached to the record by
// -o causeway.network=id:… (steps.go). When the record is deleted, each mirror
// removes the network from its engine. A network that a user removes here while
// other hosts use it is put back (putback.go). The engine's own docker_gwbridge is
// created where no network of the cluster is in its way (gateway.go).
//
// No event is acted on by itself: each causes a pass (reconcile.go), which compares the
// records with the engine (compare.go, pure) and takes the steps that are missing. A
// container's path is shorter, because its names are wanted at once: an event of a
// container has that container alone inspected (package containers).
//
// The mirror talks to the engine from goroutines of its own: the engine calls the
// driver's handlers while it creates a network. Handlers ask it for what only the
// engine knows, with a deadline (ask.go).
package mirror

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/mirror/containers"
	"github.com/causeway-net/causeway/mirror/engine"
	"github.com/causeway-net/causeway/mirror/table"
	"github.com/causeway-net/causeway/records"
)

// Config says what to mirror. All fields are required.
type Config struct {
	Host  string
	Store kvstore.Store
	// Socket is the engine's.
	Socket string
	// Driver is the name under which the engine finds causeway.
	Driver string
	// Ready waits until this host may act in the cluster.
	Ready func(ctx context.Context) error
	// Board gets what does not work.
	Board *health.Board
	Log   *logrus.Entry
}

// Mirror reconciles until it is stopped.
type Mirror struct {
	Config
	engine      *engine.Engine
	networks    *table.Table[fabric.Network]     // by ID
	attachments *table.Table[records.Attachment] // of this host, by Docker's NetworkID
	wake        chan struct{}                    // signals that a pass is wanted
	putBacks    *putBacks
	containers  *containers.Containers
}

// New makes a Mirror; nothing happens before Run.
func New(config Config) (*Mirror, error) {
	client, err := engine.Open(config.Socket)
	if err != nil {
		return nil, err
	}
	m := &Mirror{
		Config: config, engine: client, networks: &table.Table[fabric.Network]{}, attachments: &table.Table[records.Attachment]{},
		wake: make(chan struct{}, 1), putBacks: newPutBacks(),
	}
	m.containers = containers.New(containers.Config{
		Records: m.records(), Engine: client, Networks: m.networks, Attachments: m.attachments, Board: config.Board,
	})
	return m, nil
}

// Run mirrors until ctx ends. An engine that is away is waited for.
func (m *Mirror) Run(ctx context.Context) error {
	defer m.engine.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return m.networks.Follow(ctx, m.Store, records.NetworksPrefix, func(_ []string, err error) {
			m.Board.Report(health.Scope{Part: health.Mirror, Object: records.NetworksPrefix}, err)
			m.kick()
		})
	})
	group.Go(func() error {
		prefix := records.HostAttachments(m.Host)
		return m.attachments.Follow(ctx, m.Store, prefix, func(dockerIDs []string, err error) {
			m.Board.Report(health.Scope{Part: health.Mirror, Object: prefix}, err)
			m.containers.AttachmentsChanged(dockerIDs)
			m.kick()
		})
	})
	group.Go(func() error { return m.listen(ctx) })
	group.Go(func() error { return m.reconcile(ctx) })
	group.Go(func() error { return m.containers.Run(ctx) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// kick asks for a pass.
func (m *Mirror) kick() {
	select {
	case m.wake <- struct{}{}:
	default: // one is wanted already
	}
}
