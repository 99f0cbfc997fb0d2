package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/grace"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// following is the watch on one network's endpoints, and on the blocks of a routed
// one. It lives while this host has containers on the network.
type following struct {
	ctx    context.Context
	cancel context.CancelFunc
	read   bool
	blocks map[string]bool // the pools whose blocks are followed, and whether they were read
	// revision is what must have been read before the watch may end.
	revision int64
	// seen is the revision that was read last.
	seen int64
	// early are endpoints that were taken in before the watch told of them, by ID, with
	// the revision of their record.
	early map[string]int64
}

// follow hands the loop each change below prefix until ctx ends; first may be told
// before, outside of the loop.
func follow[T any](ctx context.Context, l *Loop, prefix string, first func(context.Context, kvstore.Change[T]), take func(context.Context, kvstore.Change[T])) {
	l.group.Go(func() error {
		err := kvstore.Watch(ctx, l.Store, prefix, func(c kvstore.Change[T]) {
			if first != nil {
				first(ctx, c)
			}
			_ = l.post(ctx, func(ctx context.Context) { take(ctx, c) })
		})
		if ctx.Err() != nil {
			return nil // asked to end
		}
		return err
	})
}

// followTables follows what every host reads: all hosts, all networks, and its
// own attachments.
func (l *Loop) followTables(ctx context.Context) {
	follow(ctx, l, records.HostsPrefix, l.Membership.HostsChanged, func(_ context.Context, c kvstore.Change[fabric.Host]) {
		l.mark(l.view.HostsChanged(c)...)
		if l.Hosts != nil {
			l.Hosts(l.view.Hosts())
		}
	})
	follow(ctx, l, records.NetworksPrefix, nil, func(_ context.Context, c kvstore.Change[fabric.Network]) {
		concerned := l.view.NetworksChanged(c)
		l.mark(concerned...)
		l.nameNetworks(concerned)
	})
	follow(ctx, l, records.HostAttachments(l.Host.Name), nil, func(ctx context.Context, c kvstore.Change[records.Attachment]) {
		concerned := l.view.AttachmentsChanged(c)
		l.mark(concerned...)
		if c.First {
			for _, network := range concerned {
				l.startFollowing(ctx, network, 0)
			}
			l.pruneAll()
		}
	})
}

// Follow has the network's endpoints read at least to revision.
func (l *Loop) Follow(ctx context.Context, network string, revision int64) error {
	return l.post(ctx, func(ctx context.Context) { l.startFollowing(ctx, network, revision) })
}

func (l *Loop) startFollowing(ctx context.Context, network string, revision int64) {
	if f, ok := l.follows[network]; ok {
		f.revision = max(f.revision, revision)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &following{ctx: ctx, cancel: cancel, revision: revision, early: map[string]int64{}, blocks: map[string]bool{}}
	l.follows[network] = f
	follow(ctx, l, records.NetworkEndpoints(network), nil, func(_ context.Context, c kvstore.Change[fabric.Endpoint]) {
		if l.follows[network] != f {
			return // ended meanwhile
		}
		first := !f.read
		f.read, f.seen = true, c.Revision
		f.confirm(&c)
		if l.view.EndpointsChanged(network, c) || first {
			l.mark(network)
		}
		l.nameEndpoints(network, c)
		if !l.view.HasOwn(network) && c.Revision >= f.revision {
			l.stopFollowing(network)
		}
	})
}

// Created takes in an endpoint of this host whose record was written at revision, and
// has its network followed: a Join needs not wait until the watch tells of it.
func (l *Loop) Created(ctx context.Context, endpoint fabric.Endpoint, revision int64) error {
	return l.post(ctx, func(ctx context.Context) {
		network := endpoint.Network
		l.startFollowing(ctx, network, revision)
		f := l.follows[network]
		if !f.read || f.seen >= revision {
			return // the list or the watch tells, or has told
		}
		f.early[endpoint.ID] = revision
		c := kvstore.Change[fabric.Endpoint]{Put: map[string]fabric.Endpoint{endpoint.ID: endpoint}}
		if l.view.EndpointsChanged(network, c) {
			l.mark(network)
		}
		l.nameEndpoints(network, c)
	})
}

// confirm compares what was taken in early with what the watch tells: an endpoint that
// it passes over was deleted again, in a time that it has not seen.
func (f *following) confirm(c *kvstore.Change[fabric.Endpoint]) {
	for id, revision := range f.early {
		if revision > c.Revision {
			continue
		}
		delete(f.early, id)
		_, put := c.Put[id]
		_, bad := c.Bad[id]
		if !put && !bad && !slices.Contains(c.Gone, id) {
			c.Gone = append(c.Gone, id)
		}
	}
}

// stopFollowing ends the watch on a network that has no container here any more.
func (l *Loop) stopFollowing(network string) {
	l.follows[network].cancel()
	delete(l.follows, network)
	l.view.Unfollowed(network)
	l.view.UnfollowedBlocks(network)
	if l.Names != nil {
		l.Names.Forget(network)
	}
}

// mayPrune says that all networks of this host are known: before that, nothing is
// known to be unwanted.
func (l *Loop) mayPrune() bool {
	for _, following := range l.follows {
		if !following.read {
			return false
		}
	}
	scope := health.Scope{Part: health.Prune}
	id, missing := l.view.Unknown()
	if !missing {
		l.missing = grace.Tracker[string]{}
		l.Board.Report(scope, nil)
		return true
	}
	// The watch on networks may be a little behind the one on their endpoints.
	if len(l.missing.Observe(time.Now(), []string{id}, 2*l.Timing.Retry)) > 0 {
		l.Board.Report(scope, fmt.Errorf("the record of network %s is missing or cannot be read, and containers of this host are on it: nothing is pruned until it is there", id))
	}
	return false
}
