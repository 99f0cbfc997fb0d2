// Package driver is Docker's NetworkDriver: it decodes Docker's calls, turns each
// into one call on the records, and encodes the answer.
//
// CreateNetwork: the options are decoded once (options.go), the network becomes a
// record, and Docker's NetworkID is attached to it (networks.go). CreateEndpoint
// claims the container's addresses and writes the endpoint, in one transaction
// (endpoints.go). Join asks the [Reconciler] for the link that Docker moves into
// the container. Deleting only deletes records: the reconciler follows them.
package driver

import (
	"context"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Reconciler makes the host's kernel match the records.
type Reconciler interface {
	// Check says why this host cannot have network, before anything is changed.
	Check(ctx context.Context, network fabric.Network) error
	// Follow has the network's endpoints read at least to revision.
	Follow(ctx context.Context, network string, revision int64) error
	// Plug waits until the endpoint's segment is applied, and returns the link
	// that Docker moves into the container.
	Plug(ctx context.Context, network, endpoint string) (link string, plugged fabric.Endpoint, err error)
	// Alive says whether an endpoint of this host has its container's link. One
	// that is not in view yet counts as alive.
	Alive(ctx context.Context, network, endpoint string) (bool, error)
}

// Membership is this host's standing in the cluster.
type Membership interface {
	// Refusal says why this host may not act now; nil while it may.
	Refusal() error
}

// Engine is the local Docker engine, as far as a handler may ask it: the engine
// waits for the handler meanwhile.
type Engine interface {
	// HasEndpoint says whether the engine still has the endpoint on its network.
	// It answers within two seconds.
	HasEndpoint(ctx context.Context, dockerID, endpoint string) (bool, error)
	// Configured says whether a container of the engine, a stopped one included, is
	// configured for the network. It answers within two seconds.
	Configured(ctx context.Context, dockerID string) (bool, error)
	// Removed is told that the engine removes its network dockerID, which stays in
	// the cluster as network: it is put back.
	Removed(dockerID, network string)
	// PutBack waits until the removed networks are back. While CreateNetwork is
	// answered, its error says that the network that is created has the name of one
	// of them. It returns within four seconds.
	PutBack(ctx context.Context) error
}

// Config is what a Driver works with. All fields but HostExpiry, Engine, Probe and Timing are required.
type Config struct {
	Host  fabric.Host
	Store kvstore.Store
	// VTEPNet is the prefix of the VTEP's address on its device: no tunnelled
	// subnet may overlap it.
	VTEPNet netip.Prefix
	// Scope is what Docker is told: "local" or "global".
	Scope  string
	Planes map[fabric.Mode]fabric.Dataplane
	// HostExpiry is how long another host may be gone until it is released; 0: for ever.
	HostExpiry time.Duration
	// Engine is asked whether an endpoint is dead; nil: only its link tells.
	Engine Engine
	// Probe asks on an underlay network's wire whether somebody has an address
	// already, and gives that station's MAC; nil: nobody is asked.
	Probe  func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error)
	Log    *logrus.Entry
	Timing Timing
}

// Timing are the loop's periods; a zero field takes the default.
type Timing struct {
	Distrust time.Duration // read the kernel back (1 min)
	Retry    time.Duration // after a failed Apply (2 s)
	Reap     time.Duration // look for dead endpoints and addresses (15 s)
	Grace    time.Duration // between the first and the last look (30 s)
	Lease    time.Duration // of the record alive/<host> (15 s)
}

func (t Timing) orDefaults() Timing {
	for field, preset := range map[*time.Duration]time.Duration{
		&t.Distrust: time.Minute,
		&t.Retry:    2 * time.Second,
		&t.Reap:     15 * time.Second,
		&t.Grace:    30 * time.Second,
		&t.Lease:    15 * time.Second,
	} {
		if *field == 0 {
			*field = preset
		}
	}
	return t
}

// Driver serves Docker's NetworkDriver.
type Driver struct {
	Config
	records    records.Records
	reconciler Reconciler
	membership Membership
	loop       *loop
}

// New makes a Driver; nothing happens before Run.
func New(config Config) *Driver {
	config.Timing = config.Timing.orDefaults()
	l := newLoop(config)
	return &Driver{
		Config:     config,
		records:    records.Records{Store: config.Store, Host: config.Host.Name},
		reconciler: reconciler{l},
		membership: l.standing,
		loop:       l,
	}
}

// Run keeps the kernel as the records say until ctx ends, and leaves it then as
// it is: containers keep running.
func (d *Driver) Run(ctx context.Context) error { return d.loop.run(ctx) }

// Kick has the loop read the whole kernel back now.
func (d *Driver) Kick() { d.loop.kick() }
