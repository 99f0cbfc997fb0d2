// Package quorum keeps a closed cluster's store on as many hosts as it takes, so
// that no single host is missed.
//
// The first host holds the store alone. Others that join are asked to hold it
// too: three of three hosts on, five of seven on. The host whose member leads
// compares the members with the hosts, and takes one step at a time (decide.go):
// it asks a host, gives a learner its vote, removes the member of a host that was
// released. What it asks for is a record; the host that is asked joins as a
// learner by itself (controller.go). Every host follows where the store is, and
// keeps it, so that it starts when the host that it joined through is gone. Raft,
// elections and the log are etcd's.
package quorum

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
)

// Store is the store as this host's client has it.
type Store interface {
	kvstore.Store
	Members(ctx context.Context) ([]kvstore.StoreMember, error)
	AddLearner(ctx context.Context, peer string) (others map[string]string, err error)
	Promote(ctx context.Context, id uint64) error
	RemoveMember(ctx context.Context, id uint64) error
	SetEndpoints(urls []string)
}

// Member is this host's own member of the store.
type Member interface {
	// Running gives the member's ID, zero while there is none, and whether it leads.
	Running() (id uint64, leads bool)
	// Peer is the URL that other members reach it at.
	Peer() string
	// Start joins the others, whose peer URLs are given by name, and keeps that this
	// host is a member.
	Start(ctx context.Context, others map[string]string) error
	// Leave stops the member and deletes its data: it was removed from the store.
	Leave(ctx context.Context) error
	// Keep notes where the store is asked, for the next start.
	Keep(urls []string) error
	// Full gives the members whose disk is full, by ID: the store takes no writes for them.
	// Relieve has it take writes in spite of one. Both need a member that runs.
	Full() []uint64
	Relieve(ctx context.Context, id uint64) error
}

// Config is what a Controller works with. All fields are required.
type Config struct {
	// Host is this host's key in the records.
	Host   string
	Store  Store
	Member Member
	Board  *health.Board
	Log    *logrus.Entry
}
