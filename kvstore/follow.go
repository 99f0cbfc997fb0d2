package kvstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Reasons to start again that are no faults.
var (
	errCompacted = errors.New("the changes since the last list were compacted")
	errReplaced  = errors.New("another store answers under the same address")
)

// Follow implements Store.
func (e *Etcd) Follow(ctx context.Context, prefix string, handle func(Snapshot)) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	f := follower{store: e, prefix: prefix, handle: handle}
	f.faults = faultLog{store: e, what: "follow " + prefix}
	for ctx.Err() == nil {
		if err := f.listAndWatch(ctx); ctx.Err() == nil {
			f.faults.failed(err)
			f.wait.after(ctx)
		}
	}
	return ctx.Err()
}

// follower is one Follow: the records as last handed over.
type follower struct {
	store   *Etcd
	prefix  string
	handle  func(Snapshot)
	current Snapshot
	called  bool
	wait    pause
	faults  faultLog
}

// listAndWatch runs until the watch ends, and says why it did.
func (f *follower) listAndWatch(ctx context.Context) error {
	replaced := f.store.origin.change()
	fresh, err := f.store.list(ctx, f.prefix)
	if err != nil {
		return err
	}
	if err := f.store.judge(ctx); err != nil {
		return err
	}
	f.replace(fresh)
	client, err := f.store.conn.client(ctx)
	if err != nil {
		return err
	}
	// A member that has lost its cluster ends the watch, rather than stay silent.
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := client.Watch(watching, f.store.prefix+f.prefix, clientv3.WithPrefix(),
		clientv3.WithRev(f.current.Revision+1), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-replaced:
			return errReplaced
		case response, open := <-events:
			if !open {
				return fmt.Errorf("store %s ended the watch", f.store.name)
			}
			if err := response.Err(); err != nil {
				return f.explain(ctx, err)
			}
			f.store.origin.saw(response.Header, 0)
			if isClosed(replaced) {
				return errReplaced // before anything of it is taken
			}
			f.wait.reset()
			f.faults.over()
			f.apply(response)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (f *follower) explain(ctx context.Context, err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return errCompacted
	}
	return f.store.explain(ctx, err)
}

// replace hands over a fresh list, unless it is what was handed over before.
func (f *follower) replace(fresh Snapshot) {
	fresh.Changed = differing(f.current.Items, fresh.Items)
	f.current = fresh
	if !f.called || len(fresh.Changed) > 0 {
		f.called = true
		f.handle(f.current)
	}
}

// apply hands over one response: all its events in one call.
func (f *follower) apply(response clientv3.WatchResponse) {
	changed := make(map[string]bool, len(response.Events))
	for _, event := range response.Events {
		key := strings.TrimPrefix(string(event.Kv.Key), f.store.prefix)
		changed[key] = true
		if event.Type == clientv3.EventTypeDelete {
			delete(f.current.Items, key)
		} else {
			f.current.Items[key] = Item{Key: key, Value: event.Kv.Value, Revision: event.Kv.ModRevision}
		}
		// Not the header's: that one may be ahead of the events it comes with,
		// and a NoneNewer of it would miss what is in between.
		f.current.Revision = event.Kv.ModRevision
	}
	if len(changed) > 0 {
		f.current.Changed = slices.Sorted(maps.Keys(changed))
		f.handle(f.current)
	}
}

// differing gives the keys that are not the same record in both, sorted.
func differing(before, now map[string]Item) []string {
	var keys []string
	for key, item := range now {
		if old, ok := before[key]; !ok || old.Revision != item.Revision {
			keys = append(keys, key)
		}
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// faultLog logs a background task's fault once, and its recovery once. That the
// store is away is the same fault for all tasks, so the store logs it.
type faultLog struct {
	store *Etcd
	what  string
	bad   bool
}

func (l *faultLog) failed(err error) {
	switch {
	case errors.Is(err, errCompacted), errors.Is(err, errReplaced), errors.Is(err, errLeaseLost), errors.Is(err, errRecordGone):
		l.store.log.WithError(err).Debugf("%s: starting again", l.what)
	case errors.Is(err, ErrUnavailable):
		l.store.outage.began(err)
	case !l.bad:
		l.bad = true
		l.store.log.WithError(err).Warnf("%s: failed, trying again", l.what)
	}
}

func (l *faultLog) over() {
	l.store.outage.over()
	if l.bad {
		l.bad = false
		l.store.log.Infof("%s: works again", l.what)
	}
}
