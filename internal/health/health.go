// Package health keeps the list of what is wrong on this host.
//
// A part of causeway that works in the background reports each outcome of a task
// to the [Board] under the task's [Scope]. A fault is logged once and its
// recovery once, however often it is tried; what is wrong now is in the list that
// "causeway status" prints.
package health

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Scope is what a fault is about: a part of causeway and, where that has several,
// one of its objects.
type Scope struct {
	Part   Part
	Object string
}

// Part is a task of causeway.
type Part string

// The parts. Each is reported by one package.
const (
	Store       Part = "store"       // the store answers
	Records     Part = "records"     // records can be read and are sane
	Membership  Part = "membership"  // this host has its name in the cluster
	Network     Part = "network"     // a segment is applied, by network ID
	Gateway     Part = "gateway"     // a network has its gateway here, by mode and network ID
	Prune       Part = "prune"       // what is no longer wanted was removed, by mode
	Collect     Part = "collect"     // dead endpoints and addresses are collected
	Engine      Part = "engine"      // the Docker engine answers
	Plugin      Part = "plugin"      // the engine finds the driver by its plain name
	Mirror      Part = "mirror"      // a network is as it is in the cluster, by network
	Containers  Part = "containers"  // a container's names are in the records, by container
	Displaced   Part = "displaced"   // containers have a place in the cluster, by network
	Restart     Part = "restart"     // a container runs as its restart policy says, by container
	PutBack     Part = "put-back"    // a network that was removed here is back, by network
	Names       Part = "names"       // names are served, by sandbox or network
	Environment Part = "environment" // the host's own settings
	Filter      Part = "filter"      // strangers and containers are kept from the hosts' tunnels and ports
	WireGuard   Part = "wireguard"   // the devices of encrypted networks are as they should be
	Key         Part = "key"         // this host's key of encrypted networks is rotated
	Certificate Part = "certificate" // this host's certificate, and what the cluster lets in
)

// Fault is one thing that is wrong now.
type Fault struct {
	Scope
	Since time.Time
	Text  string
}

// Board holds the faults. It is safe for concurrent use.
type Board struct {
	log    *logrus.Entry
	mu     sync.Mutex // guards faults and begun
	faults map[Scope]Fault
	begun  map[Part]uint64 // how many faults ever were
}

// New makes an empty Board that logs to log.
func New(log *logrus.Entry) *Board {
	return &Board{log: log, faults: make(map[Scope]Fault), begun: make(map[Part]uint64)}
}

// Report notes the outcome of a task: err, or that it works. It logs a fault when
// it is new or another than before, and its end. A nil Board takes no note.
func (b *Board) Report(scope Scope, err error) {
	if b == nil {
		return
	}
	b.mu.Lock()
	last, faulty := b.faults[scope]
	switch {
	case err == nil:
		delete(b.faults, scope)
	case !faulty:
		b.begun[scope.Part]++
		b.faults[scope] = Fault{Scope: scope, Since: time.Now(), Text: err.Error()}
	default:
		b.faults[scope] = Fault{Scope: scope, Since: last.Since, Text: err.Error()}
	}
	b.mu.Unlock()
	switch {
	case err != nil && (!faulty || last.Text != err.Error()):
		b.log.WithField("part", scope.Part).Warn(err)
	case err == nil && faulty:
		b.log.WithField("part", scope.Part).Infof("recovered: %s", last.Text)
	}
}

// Retain drops the faults of a part whose object is not to keep, without a recovery. A
// nil Board has none.
func (b *Board) Retain(part Part, keep func(object string) bool) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for scope := range b.faults {
		if scope.Part == part && !keep(scope.Object) {
			delete(b.faults, scope)
		}
	}
}

// Begun counts the faults since the Board was made, those that ended included.
func (b *Board) Begun() map[Part]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.begun)
}

// Faults lists what is wrong now, by part and object.
func (b *Board) Faults() []Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := make([]Fault, 0, len(b.faults))
	for _, fault := range b.faults {
		faults = append(faults, fault)
	}
	slices.SortFunc(faults, func(a, c Fault) int {
		return cmp.Or(cmp.Compare(a.Part, c.Part), cmp.Compare(a.Object, c.Object))
	})
	return faults
}
