package records

import (
	"context"
	"errors"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// Records are the cluster's records as one host reads and writes them. The zero
// values of all fields but Store and Host are useful.
type Records struct {
	Store kvstore.Store
	// Host is the name that claims are made under.
	Host string
	// While are guards of every write that deletes or releases.
	While []kvstore.Guard
	// Now is the clock; nil means the host's.
	Now func() time.Time
}

func (r Records) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// guarded gives a transaction that holds only While, and under guards.
func (r Records) guarded(guards ...kvstore.Guard) kvstore.Txn {
	return kvstore.Txn{If: append(append([]kvstore.Guard{}, r.While...), guards...)}
}

// errRecalled ends a try by memory which finds that there is nothing to do or that it
// is refused: no transaction would show whether that is so.
var errRecalled = errors.New("as far as is remembered")

// unlessRecalled is nil where what was read was read from the store.
func unlessRecalled(ctx context.Context) error {
	if kvstore.Recalls(ctx) {
		return errRecalled
	}
	return nil
}
