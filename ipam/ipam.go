// Package ipam is Docker's IpamDriver: it gives out subnets and addresses so
// that no two hosts of the cluster ever have the same one.
//
// A request travels so. Docker calls RequestPool for each subnet of a network:
// the pool becomes a record, or the one that is there is shared, for every host
// asks for its own copy of the network (pools.go). RequestAddress then claims an
// address in it (addresses.go): the best of what the records show to be free
// (choice.go), claimed by a guarded write; whoever loses takes the next.
// ReleaseAddress leaves a tombstone, so that an address rests before it is given
// out again. The driver ties pool and addresses to network and endpoint.
//
// Any network driver may use it: docker network create -d macvlan --ipam-driver causeway.
package ipam

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// The address spaces that Docker is told. Swarm's leader asks in the global one
// for the whole cluster, then each node again in the local one, for itself.
const (
	localSpace  = "causeway.local"
	globalSpace = "causeway.global"
)

// tries bounds how often a transaction is made anew after a conflict.
const tries = 64

// Config is what an IPAM works with. All fields but Probe are required.
type Config struct {
	// Host is this host's name.
	Host  string
	Store kvstore.Store
	// VTEPNet is the network that tunnels go over: no pool is picked from it.
	VTEPNet netip.Prefix
	// Probe asks on an underlay network's wire whether somebody has an address
	// already, and gives that station's MAC; nil: nobody is asked.
	Probe func(context.Context, fabric.Network, netip.Addr) (fabric.MAC, bool, error)
	Log   *logrus.Entry
}

// IPAM serves Docker's IpamDriver.
type IPAM struct {
	Config
	now func() time.Time
	// unsure has the keys of addresses whose claim failed in a way that it may
	// have been done all the same: nobody was told that he has them.
	unsure sync.Map
}

// New makes an IPAM.
func New(config Config) *IPAM { return &IPAM{Config: config, now: time.Now} }
