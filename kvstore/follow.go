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

// Reasons to list again that are no faults.
var (
	errCompacted = errors.New("the changes since the last list were compacted")
	errRestored  = errors.New("the store was restored from a backup")
)

// Follow implements Store.
func (e *Etcd) Follow(ctx context.Context, prefix string, handle func(Snapshot)) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	f := follower{store: e, prefix: prefix, handle: handle}
	for ctx.Err() == nil {
		err := f.listAndWatch(ctx)
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, errCompacted) && !errors.Is(err, errRestored) {
			e.reportTask(f.task(), err)
		}
		f.wait.after(ctx)
	}
	return ctx.Err()
}

// follower is one Follow: the records as last handed over.
type follower struct {
	store   *Etcd
	prefix  string
	handle  func(Snapshot)
	current Snapshot
	wait    pause
}

func (f *follower) task() string { return "follow " + f.prefix }

// listAndWatch runs until the watch ends, and says why it did.
func (f *follower) listAndWatch(ctx context.Context) error {
	restored, connections := f.store.restored.wait(), f.store.connections.Load()
	fresh, err := f.store.list(ctx, f.prefix)
	if err != nil {
		return err
	}
	f.replace(fresh)
	// A member that has lost its cluster ends the watch, rather than stay silent.
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := f.store.client.Watch(watching, f.store.prefix+f.prefix, clientv3.WithPrefix(),
		clientv3.WithRev(f.current.Revision+1), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-restored:
			return errRestored
		case response, open := <-events:
			if !open {
				return fmt.Errorf("store %s ended the watch", f.store.name)
			}
			if err := response.Err(); err != nil {
				return f.explain(ctx, err)
			}
			// Over a new connection these may be another store's events.
			if now := f.store.connections.Load(); now != connections {
				if err := f.store.Health(ctx); err != nil {
					return err
				}
				connections = now
			}
			f.wait.reset()
			f.store.reportTask(f.task(), nil)
			f.apply(response)
		}
	}
}

func (f *follower) explain(ctx context.Context, err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return errCompacted
	}
	return f.store.explain(ctx, err)
}

// replace hands over a fresh list. One without a change says up to which revision
// there was none.
func (f *follower) replace(fresh Snapshot) {
	fresh.Changed = differing(f.current.Items, fresh.Items)
	f.current = fresh
	f.handle(f.current)
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
			f.current.Items[key] = f.store.item(event.Kv)
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
