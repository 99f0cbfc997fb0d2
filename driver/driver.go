// Package driver is Docker's NetworkDriver: the protocol, the options, and the
// loop that keeps the host's kernel as the cluster's records say.
//
// A request travels so. Docker calls CreateNetwork: the options are decoded
// once (options.go), the network becomes a record, and an attachment ties
// Docker's NetworkID to it (networks.go). CreateEndpoint claims the container's
// addresses and writes the endpoint, in one transaction (endpoints.go). Join
// asks the loop for the link that Docker moves into the container.
//
// The loop (loop.go) is the one goroutine that owns the data planes. It follows
// the records that concern this host (follow.go), has [fabric.Plan] say what
// they mean here, and hands each segment to its [fabric.Dataplane]. Deleting is the
// same code: an endpoint that is no longer in the records is no longer in the
// segment. What Docker forgot to delete is found dead and erased (reap.go).
//
// Before anything else the host's own record is written, unless another host has
// the name (announce.go). What a host that is gone had is released when a user
// asks for it (release.go), or after a time (expire.go).
package driver

import (
	"context"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Config is what a Driver works with. All fields but HostExpiry, Probe and Timing are required.
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
	loop *loop
}

// New makes a Driver; nothing happens before Run.
func New(config Config) *Driver {
	config.Timing = config.Timing.orDefaults()
	return &Driver{Config: config, loop: newLoop(config)}
}

// Run keeps the kernel as the records say until ctx ends, and leaves it then as
// it is: containers keep talking.
func (d *Driver) Run(ctx context.Context) error { return d.loop.run(ctx) }

// Kick has the loop read the whole kernel back now.
func (d *Driver) Kick() { d.loop.kick() }
