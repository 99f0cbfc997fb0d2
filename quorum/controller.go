package quorum

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// period is how often a host that holds the store looks at its members, and any
// host tries again what failed.
const period = time.Second

// Controller does this host's part.
type Controller struct {
	Config
	wake chan struct{}

	mu     sync.Mutex // guards all below
	quorum records.Quorum
	known  bool // quorum was read
	hosts  map[string]fabric.Host
	alive  map[string]bool
}

// New makes a Controller; nothing happens before Run.
func New(config Config) *Controller {
	return &Controller{
		Config: config, wake: make(chan struct{}, 1),
		hosts: make(map[string]fabric.Host), alive: make(map[string]bool),
	}
}

// Run keeps the store on its hosts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return records.WatchQuorum(ctx, c.Store, c.follow) })
	group.Go(func() error { return c.work(ctx) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// follow takes in where the store is now.
func (c *Controller) follow(q records.Quorum) {
	c.mu.Lock()
	c.quorum, c.known = q, true
	c.mu.Unlock()
	if len(q.URLs) > 0 {
		c.Store.SetEndpoints(q.URLs)
		c.Board.Report(health.Scope{Part: health.Membership, Object: "store members"}, c.Member.Keep(q.URLs))
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// work does what this host was asked for and, where its member leads, keeps the
// others. Only the hosts that hold the store look without being told to.
func (c *Controller) work(ctx context.Context) error {
	scope := health.Scope{Part: health.Membership, Object: "store"}
	watching, stop := context.CancelFunc(nil), func() {}
	defer func() { stop() }()
	for {
		wait := 30 * period
		if id, _ := c.Member.Running(); id != 0 || c.asked() {
			wait = period
			if watching == nil {
				watched, cancel := context.WithCancel(ctx)
				watching, stop = cancel, c.watchHosts(watched, cancel)
			}
			err := c.turn(ctx)
			if errors.Is(err, kvstore.ErrConflict) {
				err = nil // etcd wants a moment
			}
			if ctx.Err() == nil {
				c.Board.Report(scope, err)
			}
		} else if watching != nil {
			stop()
			watching, stop = nil, func() {}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		case <-time.After(wait):
		}
	}
}

// watchHosts follows the hosts while this one holds the store; the function that
// it returns ends that.
func (c *Controller) watchHosts(ctx context.Context, cancel context.CancelFunc) (stop func()) {
	var watches sync.WaitGroup
	watches.Go(func() {
		_ = kvstore.Watch(ctx, c.Store, records.HostsPrefix, func(change kvstore.Change[fabric.Host]) {
			c.mu.Lock()
			defer c.mu.Unlock()
			change.Merge(c.hosts)
		})
	})
	watches.Go(func() {
		_ = kvstore.Watch(ctx, c.Store, records.AlivePrefix, func(change kvstore.Change[records.Alive]) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for name := range change.Put {
				c.alive[name] = true
			}
			for _, name := range change.Gone {
				delete(c.alive, name)
			}
		})
	})
	return func() {
		cancel()
		watches.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		clear(c.hosts)
		clear(c.alive)
	}
}

func (c *Controller) asked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quorum.Holders[c.Host]
}

// turn takes this host's own steps, and one for the store where it leads.
func (c *Controller) turn(ctx context.Context) error {
	members, err := c.Store.Members(ctx)
	if err != nil {
		return err
	}
	id, leads := c.Member.Running()
	is := slices.ContainsFunc(members, func(m kvstore.StoreMember) bool { return m.ID == id })
	switch {
	case id != 0 && !is:
		c.Log.Info("this host does not hold the store any more")
		return c.Member.Leave(ctx)
	case id == 0 && c.asked():
		return c.join(ctx, members)
	case id == 0 || !leads:
		return nil
	}
	if err := c.relieve(ctx, members, id); err != nil {
		return err
	}
	if err := c.tell(ctx, members); err != nil {
		return err
	}
	return c.lead(ctx, members, id)
}

// relieve has the store take writes in spite of a member whose disk is full, where its host
// is gone: it may not come back, and could not be removed either.
func (c *Controller) relieve(ctx context.Context, members []kvstore.StoreMember, self uint64) error {
	s, known := c.state(members, self)
	for _, id := range c.Member.Full() {
		i := slices.IndexFunc(members, func(m kvstore.StoreMember) bool { return m.ID == id })
		if i >= 0 {
			if h, there := s.of(members[i]); !known || there && h.alive {
				continue
			}
		}
		if err := c.Member.Relieve(ctx, id); err != nil {
			return err
		}
		c.Log.WithField("member", fmt.Sprintf("%x", id)).Warn("the store takes writes again: the member whose disk is full is away")
	}
	return nil
}

// join starts this host's member. One that was there before has lost its data, or
// it would run.
func (c *Controller) join(ctx context.Context, members []kvstore.StoreMember) error {
	for _, m := range members {
		if m.Peer == c.Member.Peer() && m.Name != "" {
			c.Log.Warn("this host's data of the store is lost: it joins the store again")
			return c.Store.RemoveMember(ctx, m.ID)
		}
	}
	others, err := c.Store.AddLearner(ctx, c.Member.Peer())
	if err != nil {
		return err
	}
	if err := c.Member.Start(ctx, others); err != nil {
		return fmt.Errorf("hold the store: %w", err)
	}
	c.Log.Info("this host holds the store now")
	return nil
}

// tell writes where the store is asked, when that has changed.
func (c *Controller) tell(ctx context.Context, members []kvstore.StoreMember) error {
	var urls []string
	for _, m := range members {
		if !m.Learner && m.Client != "" {
			urls = append(urls, m.Client)
		}
	}
	slices.Sort(urls)
	c.mu.Lock()
	same := !c.known || slices.Equal(urls, c.quorum.URLs)
	c.mu.Unlock()
	if same || len(urls) == 0 {
		return nil
	}
	return records.PutStoreURLs(ctx, c.Store, urls)
}

// lead takes one step towards the members that decide wants.
func (c *Controller) lead(ctx context.Context, members []kvstore.StoreMember, self uint64) error {
	s, ok := c.state(members, self)
	if !ok {
		return nil // the hosts are not known yet
	}
	next := decide(s)
	log := c.Log.WithField("host", next.host+next.member.Name)
	var err error
	switch next.kind {
	case none:
		return nil
	case ask:
		log.Info("host is asked to hold the store")
		err = records.AskHolder(ctx, c.Store, next.host)
	case dismiss:
		log.Info("host is not to hold the store any more")
		err = records.DismissHolder(ctx, c.Store, next.host)
	case promote:
		if err = c.Store.Promote(ctx, next.member.ID); err == nil {
			log.Info("host has a vote in the store")
		}
	case remove:
		if err = c.Store.RemoveMember(ctx, next.member.ID); err == nil {
			log.Info("host's member of the store is removed")
		}
	}
	return err
}

// state joins what the records say about the hosts with the members.
func (c *Controller) state(members []kvstore.StoreMember, leader uint64) (state, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := state{members: members, leader: leader}
	for _, name := range slices.Sorted(maps.Keys(c.hosts)) {
		record := c.hosts[name]
		wish := Wish(record.StoreWish)
		if wish != Auto && wish != Yes {
			wish = No
		}
		s.hosts = append(s.hosts, host{
			name: name, wish: wish, alive: c.alive[name], peer: record.StorePeer, holds: c.quorum.Holders[name],
		})
	}
	own, known := s.host(c.Host)
	return s, c.known && known && own.alive
}
