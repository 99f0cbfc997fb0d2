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

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Reconciler makes the host's kernel match the records.
type Reconciler interface {
	// Check says why this host cannot have network, before anything is changed.
	Check(ctx context.Context, network fabric.Network) error
	// Attached gives the network behind a Docker network of this host, as far as the
	// host has read the records; false where it has not read both.
	Attached(dockerID string) (fabric.Network, records.Attachment, bool)
	// Follow has the network's endpoints read at least to revision.
	Follow(ctx context.Context, network string, revision int64) error
	// Created takes in an endpoint of this host that was recorded at revision, and has
	// its network followed.
	Created(ctx context.Context, endpoint fabric.Endpoint, revision int64) error
	// Plug waits until the endpoint's segment is applied, and returns the link
	// that Docker moves into the container.
	Plug(ctx context.Context, network, endpoint string) (fabric.Plugged, error)
	// Alive says whether an endpoint of this host has its container's link, whatever of
	// the records the host has read.
	Alive(ctx context.Context, network fabric.Network, endpoint string) (bool, error)
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
	// configured for its network dockerID, of that name. It answers within two seconds.
	Configured(ctx context.Context, dockerID, name string) (bool, error)
	// Name has the cluster know the engine's network dockerID, which is its network id, by
	// its name. The error is [records.ErrNameTaken] where another network has the name. It
	// answers within two seconds.
	Name(ctx context.Context, dockerID, id string) error
	// Removing is told that the engine is removing its network dockerID, which is the
	// cluster's network: if it stays in the cluster, it is put back.
	Removing(dockerID, network string)
	// PutBack waits until the removed networks are back. While CreateNetwork is
	// answered, its error says that the network that is created has the name of one
	// of them. It returns within four seconds.
	PutBack(ctx context.Context) error
}

// Names answers containers by name.
type Names interface {
	// Joined is told which sandbox Docker puts an endpoint into.
	Joined(endpoint, sandbox string)
}

// Config is what a Driver works with. All fields but Engine, Probe, Early and Names are required.
type Config struct {
	Host  fabric.Host
	Store kvstore.Store
	// VTEPNet is the prefix of the VTEP's address on its device: no tunnelled
	// subnet may overlap it.
	VTEPNet netip.Prefix
	// Scope is what Docker is told: "local" or "global".
	Scope      string
	Reconciler Reconciler
	Membership Membership
	// Engine is asked whether an endpoint is dead; nil: only its link tells.
	Engine Engine
	// Probe asks on an underlay network's wire whether somebody has an address
	// already, and gives that station's MAC; nil: nobody is asked.
	Probe func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error)
	// Early is told which addresses of causeway's IPAM were quarantined with their
	// endpoint; nil: none is, the IPAM does so when the engine asks it.
	Early *records.EarlyReleases
	// Names is told of sandboxes; nil: nobody answers by name.
	Names Names
	Log   *logrus.Entry
}

// Driver serves Docker's NetworkDriver.
type Driver struct {
	Config
	records records.Records
}

// New makes a Driver; nothing happens before a call of Docker's.
func New(config Config) *Driver {
	return &Driver{Config: config, records: records.Records{Store: config.Store, Host: config.Host.Name}}
}
