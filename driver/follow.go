package driver

import (
	"context"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// The tables that every host reads whole.
const (
	hostsTable       = "hosts"
	networksTable    = "networks"
	attachmentsTable = "attachments"
)

// following is the watch on one network's endpoints. It lives while this host
// has containers on the network.
type following struct {
	cancel context.CancelFunc
	read   bool
	// revision is what must have been read before the watch may end.
	revision int64
}

// change is what happened below a prefix, decoded.
type change[T any] struct {
	revision int64
	put      map[string]T // by the rest of the key
	gone     []string
}

// follow hands the loop each change below prefix until ctx ends.
func follow[T any](ctx context.Context, l *loop, prefix string, take func(context.Context, change[T])) {
	l.group.Go(func() error {
		err := l.Store.Follow(ctx, prefix, func(snapshot kvstore.Snapshot) {
			c := change[T]{revision: snapshot.Revision, put: map[string]T{}}
			for _, key := range snapshot.Changed {
				item, there := snapshot.Items[key]
				if !there {
					c.gone = append(c.gone, key[len(prefix):])
					continue
				}
				value, err := kvstore.Decode[T](item)
				if err != nil {
					l.Log.WithError(err).Error("a record cannot be read and is left out")
					continue
				}
				c.put[key[len(prefix):]] = value
			}
			_ = l.post(ctx, func(ctx context.Context) { take(ctx, c) })
		})
		if ctx.Err() != nil {
			return nil // asked to end
		}
		return err
	})
}

// merge brings a change into table.
func (c change[T]) merge(table map[string]T) {
	maps.Copy(table, c.put)
	for _, key := range c.gone {
		delete(table, key)
	}
}

func (l *loop) followRecords(ctx context.Context) {
	follow(ctx, l, records.HostsPrefix, func(_ context.Context, c change[fabric.Host]) {
		c.merge(l.state.Hosts)
		if l.state.Hosts[l.Host.Name].VTEP != l.Host.VTEP {
			l.overtaken(slices.Contains(c.gone, l.Host.Name))
		}
		l.state.Hosts[l.Host.Name] = l.Host
		l.ready[hostsTable] = true
		l.touchAll()
	})
	follow(ctx, l, records.NetworksPrefix, func(_ context.Context, c change[fabric.Network]) {
		c.merge(l.state.Networks)
		l.ready[networksTable] = true
		for id := range c.put {
			l.dirty[id] = true
		}
		for _, id := range c.gone {
			l.dirty[id] = true
		}
	})
	attachments := map[string]records.Attachment{}
	follow(ctx, l, records.HostAttachments(l.Host.Name), func(ctx context.Context, c change[records.Attachment]) {
		c.merge(attachments)
		first := !l.ready[attachmentsTable]
		l.ready[attachmentsTable] = true
		l.state.Attached = make(map[string]bool, len(attachments))
		l.state.Forced = make(map[string]bool)
		for _, attachment := range attachments {
			l.state.Attached[attachment.Network] = true
			l.state.Forced[attachment.Network] = l.state.Forced[attachment.Network] || attachment.Force
			l.dirty[attachment.Network] = true
			if first {
				l.startFollowing(ctx, attachment.Network, 0)
			}
		}
		l.prune = true
	})
}

// watch has the loop read the endpoints of a network to revision at least.
func (l *loop) watch(ctx context.Context, network string, revision int64) error {
	return l.post(ctx, func(ctx context.Context) { l.startFollowing(ctx, network, revision) })
}

func (l *loop) startFollowing(ctx context.Context, network string, revision int64) {
	if f, ok := l.follows[network]; ok {
		f.revision = max(f.revision, revision)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &following{cancel: cancel, revision: revision}
	l.follows[network] = f
	table := map[string]fabric.Endpoint{}
	follow(ctx, l, records.NetworkEndpoints(network), func(_ context.Context, c change[fabric.Endpoint]) {
		if l.follows[network] != f {
			return // ended meanwhile
		}
		c.merge(table)
		f.read = true
		l.state.Endpoints[network] = table
		l.dirty[network] = true
		if !l.hasLocal(table) && c.revision >= f.revision {
			l.stopFollowing(network)
		}
	})
}

// stopFollowing lets a network go that has no container here any more.
func (l *loop) stopFollowing(network string) {
	l.follows[network].cancel()
	delete(l.follows, network)
	delete(l.state.Endpoints, network)
	l.prune = true
}

func (l *loop) hasLocal(endpoints map[string]fabric.Endpoint) bool {
	for _, endpoint := range endpoints {
		if endpoint.Host == l.Host.Name {
			return true
		}
	}
	return false
}
