package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// standing says whether this host may act under its name: its record is written,
// and no other host has the name.
type standing struct {
	mu      sync.Mutex
	ready   chan struct{} // closed while it may
	refused error         // why it may not, once that is known
}

func newStanding() *standing { return &standing{ready: make(chan struct{})} }

// set notes what the last try to write the record has come to, and says whether
// that is news.
func (s *standing) set(refused error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.refused
	s.refused = refused
	open := false
	select {
	case <-s.ready:
		open = true
	default:
	}
	switch {
	case refused == nil && !open:
		close(s.ready)
	case refused != nil && open:
		s.ready = make(chan struct{})
	}
	return (before == nil) != (refused == nil)
}

func (s *standing) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *standing) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// Ready waits until this host may act under its name.
func (d *Driver) Ready(ctx context.Context) error {
	select {
	case <-d.loop.standing.wait():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Troubles tells what keeps this host from its work, as sentences.
func (d *Driver) Troubles() []string {
	if refused := d.loop.standing.refusal(); refused != nil {
		return []string{refused.Error()}
	}
	return nil
}

// appear writes this host's record, and only then follows the others' and holds
// the one that says it lives: until it is written, the name may be another's.
func (l *loop) appear(ctx context.Context) error {
	if err := l.announce(ctx); err != nil {
		return err
	}
	if err := l.records.SyncMembers(ctx, l.Host.Mirror); err != nil {
		l.Log.WithError(err).Warn("members of networks could not be brought in line with this host's attachments")
	}
	l.followRecords(ctx)
	l.group.Go(func() error {
		since := time.Now().UTC().Truncate(time.Second)
		return l.Store.Hold(ctx, records.AliveKey(l.Host.Name), records.Alive{Since: since}, l.Timing.Lease)
	})
	l.group.Go(func() error { return l.expire(ctx) })
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.again:
		}
		if err := l.announce(ctx); err != nil {
			return err
		}
	}
}

// overtaken has this host's record written again: it was released while it was
// cut off, or another host has taken its name meanwhile.
func (l *loop) overtaken(released bool) {
	if released {
		l.Log.Warn("this host was released from the cluster, which took it for gone; it joins again, and its containers have to be restarted")
	}
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// announce writes this host's record, and waits for that as long as it takes.
func (l *loop) announce(ctx context.Context) error {
	for {
		err := l.putHost(ctx)
		if err == nil {
			if l.standing.set(nil) {
				l.Log.Infof("host name %s is this host's now", l.Host.Name)
			}
			return nil
		}
		if taken := (nameTakenError{}); errors.As(err, &taken) && l.standing.set(taken) {
			l.Log.Error(taken)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.Timing.Retry):
		}
	}
}

// nameTakenError says that another host has this one's name.
type nameTakenError struct{ other fabric.Host }

func (e nameTakenError) Error() string {
	return fmt.Sprintf("host name %s is in use by the host with VTEP %s: give --host-name", e.other.Name, e.other.VTEP)
}

// putHost writes this host's record, unless a host with another VTEP lives under
// its name. That may be this one before a restart: then its lease runs out.
func (l *loop) putHost(ctx context.Context) error {
	key := records.HostKey(l.Host.Name)
	txn := kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, l.Host)}}
	item, err := l.Store.Get(ctx, key)
	switch {
	case errors.Is(err, kvstore.ErrNotFound):
		txn.If = append(txn.If, kvstore.Missing(key))
	case err != nil:
		return err
	default:
		txn.If = append(txn.If, kvstore.Unchanged(item))
		other, err := kvstore.Decode[fabric.Host](item)
		if err != nil || other.VTEP == l.Host.VTEP {
			break
		}
		alive := records.AliveKey(l.Host.Name)
		if _, err := l.Store.Get(ctx, alive); err == nil {
			return nameTakenError{other}
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		txn.If = append(txn.If, kvstore.Missing(alive))
	}
	_, err = l.Store.Commit(ctx, txn)
	return err
}
