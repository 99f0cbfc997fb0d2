package kvstore

import (
	"context"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sendAgain is how long the first answer to a transaction is waited for, and twice as long
// the next. A leader that hands over drops what other members forward to it, and those wait
// another 7 s for it (ReqTimeout of etcd's server).
const (
	sendAgain = time.Second
	mostSent  = 3
)

// breaksItself says that txn cannot be done twice: its writes break one of its guards.
func (txn Txn) breaksItself() bool {
	return slices.ContainsFunc(txn.If, func(guard Guard) bool {
		return slices.ContainsFunc(txn.Then, func(op Op) bool {
			switch guard.kind {
			case guardMissing:
				return op.kind == opPut && op.key == guard.key
			case guardExists:
				return op.deletes(guard.key)
			case guardUnchanged:
				return op.kind == opPut && op.key == guard.key || op.deletes(guard.key) && guard.revision > 0
			default: // guardNoneNewer
				return op.kind == opPut && strings.HasPrefix(op.key, guard.key)
			}
		})
	})
}

func (op Op) deletes(key string) bool {
	return op.kind == opDelete && op.key == key || op.kind == opDeletePrefix && strings.HasPrefix(key, op.key)
}

// resend sends a transaction that breaks itself, and where no answer comes in time again,
// beside the first. At most one of them is done, and its answer counts; that of a failed
// guard alone may be due to another.
func resend(ctx context.Context, again time.Duration, send func(context.Context) (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	type answer struct {
		response *clientv3.TxnResponse
		err      error
	}
	answers := make(chan answer, mostSent)
	ask := func() {
		response, err := send(ctx)
		answers <- answer{response, err}
	}
	go ask()
	late := time.NewTimer(again)
	defer late.Stop()
	var last answer
	for asked, got := 1, 0; got < asked; {
		select {
		case <-late.C:
			go ask()
			if asked++; asked < mostSent {
				again *= 2
				late.Reset(again)
			}
		case a := <-answers:
			if got++; a.err == nil && a.response.Succeeded {
				return a.response, nil
			}
			if got == 1 || a.err != nil { // not to know outweighs a failed guard
				last = a
			}
		}
	}
	return last.response, last.err
}
