package kvstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Reasons to make a held record again that are no faults.
var (
	errLeaseLost  = errors.New("its lease ran out")
	errRecordGone = errors.New("someone removed it")
)

// Hold implements Store. etcd counts leases in whole seconds, and may make a
// very short one longer.
func (e *Etcd) Hold(ctx context.Context, key string, value any, ttl time.Duration) error {
	data, err := encode(key, value)
	if err != nil {
		return err
	}
	faults := faultLog{store: e, what: "hold " + key}
	var wait pause
	for ctx.Err() == nil {
		held, err := e.holdOnce(ctx, key, data, ttl, faults.over)
		if held {
			wait.reset()
		}
		if ctx.Err() == nil {
			faults.failed(err)
			wait.after(ctx)
		}
	}
	return ctx.Err()
}

// holdOnce makes the record on a new lease, keeps it until it is lost or ctx
// ends, and says whether it was made and why it ended.
func (e *Etcd) holdOnce(ctx context.Context, key string, data []byte, ttl time.Duration, made func()) (bool, error) {
	lease, err := request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.LeaseGrantResponse, error) {
		return c.Grant(ctx, max(1, int64((ttl+time.Second-1)/time.Second)))
	})
	if err != nil {
		return false, err
	}
	defer e.revoke(ctx, lease.ID)
	put, err := request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.PutResponse, error) {
		return c.Put(ctx, e.prefix+key, string(data), clientv3.WithLease(lease.ID))
	})
	if err != nil {
		return false, err
	}
	made()
	return true, e.keep(ctx, key, lease.ID, put.Header.Revision)
}

// keep renews the lease until it or the record, put at revision, is lost.
func (e *Etcd) keep(ctx context.Context, key string, lease clientv3.LeaseID, revision int64) error {
	client, err := e.conn.client(ctx)
	if err != nil {
		return err
	}
	keeping, cancel := context.WithCancel(ctx)
	defer cancel()
	renewals, err := client.KeepAlive(keeping, lease)
	if err != nil {
		return e.explain(ctx, err)
	}
	removals := client.Watch(keeping, e.prefix+key, clientv3.WithRev(revision+1), clientv3.WithFilterPut())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-renewals:
			if !open {
				return errLeaseLost
			}
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

// revoke removes the lease with its record, also after ctx has ended. When it
// cannot, the lease runs out by itself.
func (e *Etcd) revoke(ctx context.Context, lease clientv3.LeaseID) {
	const patience = 2 * time.Second
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, err := request(last, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.LeaseRevokeResponse, error) {
		return c.Revoke(ctx, lease)
	})
	if err != nil {
		e.log.WithError(err).Debug("revoke a lease")
	}
}
