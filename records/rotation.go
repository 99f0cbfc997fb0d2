package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/kvstore"
)

// RotationStep is how far the replacement of the cluster's authority has come.
type RotationStep string

// The steps. Each begins when every host has done the one before.
const (
	StepBelieve RotationStep = "believe" // every host comes to believe the new authority, too
	StepSign    RotationStep = "sign"    // the new one signs, and every host gets a certificate of it
	StepForget  RotationStep = "forget"  // every host ceases to believe the old one
	StepDone    RotationStep = "done"
)

// Rotation is the replacement of the cluster's authority by another.
type Rotation struct {
	// ID names the new authority: its pin.
	ID   string       `json:"id"`
	Step RotationStep `json:"step"`
	// Authorities are those to believe, as PEM; the one that signs is the first.
	Authorities []byte `json:"authorities"`
	// New is the new one alone.
	New []byte `json:"new"`
	// By is the host that has the new authority's key, and At where it is asked for it.
	By string `json:"by"`
	At string `json:"at"`
}

const (
	rotationKey  = AuthorityPrefix + "rotation"
	rotatedHosts = AuthorityPrefix + "done/"
)

// mark is what a host writes that has done a step.
func (r Rotation) mark() string { return r.ID + " " + string(r.Step) }

// ReadRotation gives the last rotation, done or not; the error is
// [kvstore.ErrNotFound] where there was none.
func ReadRotation(ctx context.Context, store kvstore.Store) (Rotation, error) {
	rotation, _, err := kvstore.Read[Rotation](ctx, store, rotationKey)
	return rotation, err
}

// StartRotation begins one. It fails while another is under way whose host lives.
func (r Records) StartRotation(ctx context.Context, rotation Rotation) error {
	txn := kvstore.Txn{Then: []kvstore.Op{kvstore.Put(rotationKey, rotation)}}
	last, item, err := kvstore.Read[Rotation](ctx, r.Store, rotationKey)
	switch {
	case errors.Is(err, kvstore.ErrNotFound):
		txn.If = []kvstore.Guard{kvstore.Missing(rotationKey)}
	case err != nil:
		return err
	default:
		txn.If = []kvstore.Guard{kvstore.Unchanged(item)}
		if last.Step == StepDone {
			break
		}
		_, err := r.Store.Get(ctx, AliveKey(last.By))
		if err == nil {
			return fmt.Errorf("the authority is being replaced already, which host %s began: \"causeway status\" says what it waits for", last.By)
		}
		if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
	}
	_, err = r.Store.Commit(ctx, txn)
	return err
}

// WatchRotation hands over the rotation and each of its steps until ctx ends.
func WatchRotation(ctx context.Context, store kvstore.Store, handle func(Rotation)) error {
	return store.Follow(ctx, AuthorityPrefix, func(snapshot kvstore.Snapshot) {
		item, there := snapshot.Items[rotationKey]
		if !there || !slices.Contains(snapshot.Changed, rotationKey) {
			return
		}
		if rotation, err := kvstore.Decode[Rotation](item); err == nil {
			handle(rotation)
		}
	})
}

// StepTaken notes that the host has done the rotation's step.
func (r Records) StepTaken(ctx context.Context, rotation Rotation) error {
	_, err := r.Store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(HostKey(r.Host))},
		Then: []kvstore.Op{kvstore.Put(rotatedHosts+r.Host, rotation.mark())},
	})
	return err
}

// StepWaits lists the hosts that have not done the rotation's step.
func (r Records) StepWaits(ctx context.Context, rotation Rotation) ([]string, error) {
	hosts, err := r.Store.List(ctx, HostsPrefix)
	if err != nil {
		return nil, err
	}
	marks, err := r.Store.List(ctx, rotatedHosts)
	if err != nil {
		return nil, err
	}
	taken, _ := kvstore.DecodeAll[string](marks, rotatedHosts)
	var waits []string
	for key := range hosts.Items {
		if host := strings.TrimPrefix(key, HostsPrefix); taken[host] != rotation.mark() {
			waits = append(waits, host)
		}
	}
	slices.Sort(waits)
	return waits, nil
}

// NextStep goes on from a rotation's step to the next one. A rotation that is
// another meanwhile stays as it is.
func (r Records) NextStep(ctx context.Context, from, to Rotation) error {
	current, item, err := kvstore.Read[Rotation](ctx, r.Store, rotationKey)
	if err != nil || current.mark() != from.mark() {
		return err
	}
	txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Put(rotationKey, to)}}
	if to.Step == StepDone {
		txn.Then = append(txn.Then, kvstore.DeletePrefix(rotatedHosts))
	}
	_, err = r.Store.Commit(ctx, txn)
	if errors.Is(err, kvstore.ErrConflict) {
		return nil
	}
	return err
}
