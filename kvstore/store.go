// Package kvstore keeps the cluster's records in etcd.
//
// A change is one transaction: what it relies on (guards) and what it writes.
// A reader lists a prefix once and then follows its changes; when etcd has
// compacted them away, it lists again. The same code talks to an etcd embedded
// in this process and to a cluster of its own. A store has an identity, and one
// that came in place of the known one is neither read nor written (identity.go).
// Keys are relative to the store's prefix ("networks/…").
package kvstore

import (
	"context"
	"errors"
	"time"
)

// Errors that callers test with errors.Is.
var (
	// ErrNotFound says that there is no record under the key.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a guard of a transaction did not hold; nothing was written.
	ErrConflict = errors.New("changed meanwhile")
	// ErrUnavailable says that no etcd answered in time; the text names the endpoints.
	ErrUnavailable = errors.New("store unavailable")
)

// Store holds records. Every method is safe for concurrent use and returns
// within its ctx or the store's own request timeout (8 s), whichever is first,
// but Follow and Hold, which run until ctx ends.
type Store interface {
	// Get returns the record under key, or ErrNotFound.
	Get(ctx context.Context, key string) (Item, error)
	// GetAll returns those records under keys that are there, at one revision; it takes
	// 128 keys at most.
	GetAll(ctx context.Context, keys []string) (Snapshot, error)
	// List returns all records whose key starts with prefix, which ends in "/".
	List(ctx context.Context, prefix string) (Snapshot, error)
	// Commit writes all of txn or, with ErrConflict, nothing. It returns the
	// store's revision after the write. A key that is put must not be written a
	// second time in txn; it takes 127 guards and 128 writes at most. After
	// ErrUnavailable, txn may have been done or not.
	Commit(ctx context.Context, txn Txn) (int64, error)
	// Follow calls handle with all records below prefix, and again after each
	// change, one call at a time, until ctx ends; it returns ctx's error. While
	// the store is away it waits, and then hands over what is there now, be it
	// without a change.
	// handle must not keep Items beyond the call or change it.
	Follow(ctx context.Context, prefix string, handle func(Snapshot)) error
	// Hold keeps key present with value until ctx ends, on a lease of ttl: after a crash
	// of this process the record expires. When the lease or the record is lost it is
	// written again. At the end of ctx the record is deleted.
	Hold(ctx context.Context, key string, value any, ttl time.Duration) error
	// Health returns nil when the store answers a read, else why not.
	Health(ctx context.Context) error
}

// Item is one record.
type Item struct {
	Key   string
	Value []byte // JSON
	// Revision is that of the record's last change, growing over the whole store.
	Revision int64
	// Oversize is the length of a value of more than MaxRecord, which is left out.
	Oversize int
}

// Snapshot is a prefix at one revision.
type Snapshot struct {
	Revision int64
	Items    map[string]Item // by key
	// Changed are the keys that were put or removed since the call before;
	// after a fresh list, all keys that differ.
	Changed []string
}

// Txn is one change: when all of If holds, all of Then is done.
type Txn struct {
	If   []Guard
	Then []Op
}

// Guard is one condition of a Txn. Make it with Missing, Exists, Unchanged or NoneNewer.
type Guard struct {
	kind     guardKind
	key      string
	revision int64
}

type guardKind int

const (
	guardMissing guardKind = iota
	guardExists
	guardUnchanged
	guardNoneNewer
)

// Missing holds when there is no record under key.
func Missing(key string) Guard { return Guard{kind: guardMissing, key: key} }

// Exists holds when there is a record under key.
func Exists(key string) Guard { return Guard{kind: guardExists, key: key} }

// Unchanged holds when the record under key is the one that was read at item.Revision.
func Unchanged(item Item) Guard {
	return Guard{kind: guardUnchanged, key: item.Key, revision: item.Revision}
}

// NoneNewer holds when no record below prefix was put after revision. Removals
// do not break it.
func NoneNewer(prefix string, revision int64) Guard {
	return Guard{kind: guardNoneNewer, key: prefix, revision: revision}
}

// Op is one write of a Txn. Make it with Put, Delete or DeletePrefix.
type Op struct {
	kind  opKind
	key   string
	value any
}

type opKind int

const (
	opPut opKind = iota
	opDelete
	opDeletePrefix
)

// Put stores value, as JSON, under key.
func Put(key string, value any) Op { return Op{kind: opPut, key: key, value: value} }

// Delete removes the record under key; a missing one is no error.
func Delete(key string) Op { return Op{kind: opDelete, key: key} }

// DeletePrefix removes all records whose key starts with prefix, which ends in "/".
func DeletePrefix(prefix string) Op { return Op{kind: opDeletePrefix, key: prefix} }
