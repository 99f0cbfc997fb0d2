package records

import (
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
