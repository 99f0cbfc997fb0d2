package kvstore

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// origin tells when another store answers under the same address: someone has
// started it anew, and revisions of the old one mean nothing now. Where it came
// from a copy of the old one, it is the same cluster's still.
type origin struct {
	mu       sync.Mutex
	cluster  uint64
	revision int64 // the highest that was seen
	changed  chan struct{}
	// doubts counts how often another store answered, and settled how many of
	// them were found to be the cluster's.
	doubts, settled int
	refused         error
}

// floor is the revision that an answer to a request made from now on has at least.
func (o *origin) floor() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.revision
}

// saw notes who has answered. An external cluster that is set up anew in the same
// way has the same ID, but begins its revisions anew.
func (o *origin) saw(header *pb.ResponseHeader, floor int64) {
	if header.GetClusterId() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cluster != 0 && (o.cluster != header.ClusterId || header.Revision < floor) {
		o.doubts++
		o.revision = 0
		if o.changed != nil {
			close(o.changed)
			o.changed = nil
		}
	}
	o.cluster = header.ClusterId
	o.revision = max(o.revision, header.Revision)
}

// change gives a channel that is closed when the store is another than now.
func (o *origin) change() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.changed
}

// doubt gives the number of the doubt that is to be settled; zero: there is none.
func (o *origin) doubt() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.settled == o.doubts {
		return 0
	}
	return o.doubts
}

func (o *origin) settle(doubt int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled = max(o.settled, doubt)
}

func (o *origin) refusal() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused
}

// refuse is for good, and says whether it is new.
func (o *origin) refuse(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused != nil {
		return false
	}
	o.refused = err
	return true
}

var errAnew = errors.New("the store lacks the record of this process")

// judge refuses a store that came in place of the first and lacks our mark, for
// as long as this process runs: to all its users it is away.
func (e *Etcd) judge(ctx context.Context) error {
	doubt := e.origin.doubt()
	if doubt == 0 {
		return e.origin.refusal()
	}
	if e.mark != "" {
		_, err := e.Get(ctx, e.mark)
		if errors.Is(err, ErrNotFound) {
			err = &unavailableError{
				store: e.name, err: errAnew,
				cause: "another one answers there now, without this host's record; what runs is left as it is, and restarting causeway begins anew in it",
			}
			if e.origin.refuse(err) {
				e.outage.replaced(err)
			}
		}
		if err != nil {
			return err
		}
	}
	e.origin.settle(doubt)
	return nil
}
