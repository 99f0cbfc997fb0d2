package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/causeway-net/causeway/kvstore"
)

// running is this host's member of the store, from its start on.
type running struct {
	stop context.CancelFunc
	done chan struct{} // closed when it has started, or could not
	// authorities is the hash of those that it trusts.
	authorities [sha256.Size]byte
	// member and err are there once done is closed.
	member *kvstore.Member
	err    error
}

// launch starts the member, which may wait for the others for as long as it takes.
func (c *Cluster) launch(others map[string]string) *running {
	ctx, cancel := context.WithCancel(context.Background())
	started := &running{stop: cancel, done: make(chan struct{})}
	if bundle, err := c.Dir.CA(); err == nil { // else the start fails
		started.authorities = sum(bundle)
	}
	go func() {
		defer close(started.done)
		started.member, started.err = kvstore.StartMember(ctx, kvstore.MemberConfig{
			Name: c.Host, DataDir: c.DataDir, Client: netip.AddrPortFrom(c.Address, c.Port+1), Peer: c.peerAddr(),
			Host: c.Dir.HostFile(), CA: c.Dir.CAFile(), CRL: c.Dir.CRLFile(), Others: others,
			Board: c.Board, Log: c.Log, Volatile: c.Volatile,
		})
		if started.err == nil {
			started.err = c.settle(started.member)
		}
	}()
	c.setRunning(started)
	return started
}

func (c *Cluster) setRunning(r *running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = r
	close(c.changed)
	c.changed = make(chan struct{})
}

// runs gives the member that is running or starting, nil without one, and what is
// closed when that is another.
func (c *Cluster) runs() (*running, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running, c.changed
}

// Member is this host's member of the store; nil where there is none, or where it
// still waits for the others.
func (c *Cluster) Member() *kvstore.Member {
	r, _ := c.runs()
	if r == nil {
		return nil
	}
	select {
	case <-r.done:
		return r.member
	default:
		return nil
	}
}

// settle does what is left to do for a member that runs.
func (c *Cluster) settle(m *kvstore.Member) error {
	revoked, err := c.Dir.Revoked()
	m.Revoke(slices.Collect(maps.Keys(revoked)))
	if c.State().ID == m.ID() {
		return err
	}
	return errors.Join(err, c.setState(func(s *State) { s.ID = m.ID() }))
}

// Running gives the ID of this host's member, zero while there is none, and whether
// it leads. It is a member while it starts, too.
func (c *Cluster) Running() (id uint64, leads bool) {
	if m := c.Member(); m != nil {
		return m.ID(), m.Leads()
	}
	return c.State().ID, false
}

// Full gives the members of the store whose disk is full, by ID.
func (c *Cluster) Full() []uint64 {
	if m := c.Member(); m != nil {
		return m.Full()
	}
	return nil
}

// Relieve has the store take writes in spite of a member whose disk is full.
func (c *Cluster) Relieve(ctx context.Context, id uint64) error {
	m := c.Member()
	if m == nil {
		return errors.New("this host does not hold the store")
	}
	return m.Relieve(ctx, id)
}

// Start makes this host hold the store beside others, whose peer URLs are given by
// name. The files of a start that was killed before it was done are deleted.
func (c *Cluster) Start(ctx context.Context, others map[string]string) error {
	if err := c.stopMember(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.storeDir()); err != nil {
		return err
	}
	if err := c.client().TakeAuthority(ctx, JoinAddrs(c.State().Members)); err != nil {
		return err
	}
	if err := c.moved(); err != nil {
		return err
	}
	started := c.launch(others)
	select {
	case <-started.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.stopMember())
	}
	if started.err != nil {
		return errors.Join(started.err, c.stopMember())
	}
	return c.setState(func(s *State) { s.Member = true })
}

// Leave ends this host's member, which was removed from the store, and deletes its
// files and the authority's key.
func (c *Cluster) Leave(context.Context) error {
	if err := c.stopMember(); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(c.storeDir()), removeFile(c.Dir.CAKeyFile())); err != nil {
		return fmt.Errorf("delete the store's files: %w", err)
	}
	return c.setState(func(s *State) { s.Member, s.ID = false, 0 })
}

// stopMember ends the member and keeps its files.
func (c *Cluster) stopMember() error {
	r, _ := c.runs()
	if r == nil {
		return nil
	}
	r.stop()
	<-r.done
	c.setRunning(nil)
	if r.member == nil {
		return nil
	}
	return r.member.Close()
}

// Close ends what Open started.
func (c *Cluster) Close() error { return c.stopMember() }
