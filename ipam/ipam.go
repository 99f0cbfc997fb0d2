// Package ipam is Docker's IpamDriver: it gives out subnets and addresses so
// that no two hosts of the cluster ever have the same one.
//
// A request's path: Docker calls RequestPool for each subnet of a network. The
// request is decoded (request.go) and becomes a transaction of package records:
// the pool is created, or shared where it is there, for every host asks for its
// own copy of the network. RequestAddress claims an address in it: the best of
// what the records show to be free (choice.go), by a guarded write; a host that
// loses the race takes the next. ReleaseAddress leaves a record behind, so that
// an address is quarantined before it is given out again. The driver binds pool
// and addresses to network and endpoint.
//
// Any network driver may use it: docker network create -d macvlan --ipam-driver causeway.
package ipam

import (
	"context"
	"net/netip"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// The address spaces that Docker is told. Swarm's leader asks in the global one
// for the whole cluster, then each node again in the local one, for itself.
const (
	localSpace  = "causeway.local"
	globalSpace = "causeway.global"
)

// Config is what an IPAM works with. All fields but Claimed, Early and Probe are required.
type Config struct {
	// Host is this host's name.
	Host  string
	Store kvstore.Store
	// VTEPNet is the network that tunnels go over: no pool is picked from it.
	VTEPNet netip.Prefix
	// Claimed is told each address that is claimed, or may be: the engine may die, or not
	// hear of it, before it uses it. nil: nobody is told.
	Claimed func(pool string, addr netip.Addr)
	// Early are addresses that were released with their endpoint. nil: none.
	Early *records.EarlyReleases
	// Probe asks on an underlay network's wire whether somebody has an address
	// already, and gives that station's MAC; nil: nobody is asked.
	Probe func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error)
}

// IPAM serves Docker's IpamDriver.
type IPAM struct {
	Config
	claimer records.Claimer
}

// New makes an IPAM.
func New(config Config) *IPAM {
	return &IPAM{Config: config, claimer: records.Claimer{
		Records: records.Records{Store: config.Store, Host: config.Host}, Choices: choices, Claimed: config.Claimed, Probe: config.Probe,
	}}
}
