package kvstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Reasons to write a held record again that are no faults.
var (
	errLeaseLost  = errors.New("its lease ran out")
	errRecordGone = errors.New("it was deleted")
)

// revokeTimeout bounds what the end of a Hold waits for a store that is away.
const revokeTimeout = 2 * time.Second

// Hold implements Store. etcd counts leases in whole seconds, and may make a
// very short one longer.
func (e *Etcd) Hold(ctx context.Context, key string, value any, ttl time.Duration) error {
	data, err := encode(key, value)
	if err != nil {
		return err
	}
	task := "hold " + key
	var wait pause
	for ctx.Err() == nil {
		err := e.holdOnce(ctx, key, data, ttl, func() { wait.reset(); e.reportTask(task, nil) })
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, errLeaseLost) && !errors.Is(err, errRecordGone) {
			e.reportTask(task, err)
		}
		wait.after(ctx)
	}
	return ctx.Err()
}

// holdOnce makes the record on a new lease and keeps it until it is lost or ctx
// ends; it says why it ended.
func (e *Etcd) holdOnce(ctx context.Context, key string, data []byte, ttl time.Duration, made func()) error {
	if _, err := e.identified(ctx); err != nil {
		return err
	}
	seconds := max(1, int((ttl+time.Second-1)/time.Second))
	lease, err := request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.LeaseGrantResponse, error) {
		return c.Grant(ctx, int64(seconds))
	})
	if err != nil {
		return err
	}
	session, err := concurrency.NewSession(e.client, concurrency.WithLease(lease.ID), concurrency.WithTTL(seconds))
	if err != nil {
		return e.explain(ctx, err)
	}
	defer func() {
		session.Orphan()
		// Also after ctx has ended. Where it cannot be revoked, the lease runs out by itself.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
		defer cancel()
		_, _ = e.client.Revoke(last, lease.ID)
	}()
	put, err := e.transact(ctx, nil, []clientv3.Op{clientv3.OpPut(e.prefix+key, string(data), clientv3.WithLease(lease.ID))}, nil)
	if err != nil {
		return err
	}
	made()
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	removals := e.client.Watch(watching, e.prefix+key, clientv3.WithRev(put.Header.Revision+1), clientv3.WithFilterPut())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-session.Done():
			return errLeaseLost
		case response, open := <-removals:
			if !open {
				return fmt.Errorf("store %s ended the watch", e.name)
			}
			if err := response.Err(); err != nil {
				return e.explain(ctx, err)
			}
			if len(response.Events) > 0 {
				return errRecordGone
			}
		}
	}
}
