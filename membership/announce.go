package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// announce writes this host's record, and retries as long as it takes. What keeps
// it from that is on the Board; that the store does not answer is there already,
// as the store's own fault.
func (m *Member) announce(ctx context.Context) error {
	scope := health.Scope{Part: health.Membership}
	pause := m.Timing.Retry
	for {
		err := m.write(ctx)
		refused := (*records.RefusedError)(nil)
		switch {
		case err == nil:
			m.Board.Report(scope, nil)
			if m.standing.accept() {
				m.Log.Infof("host name %s is this host's now", m.Host.Name)
			}
			return nil
		case errors.As(err, &refused):
			m.standing.refuse(refused)
			m.Board.Report(scope, refused)
			// It takes a person to change that, and each try reads all hosts.
			pause = min(2*pause, 5*m.Timing.Retry)
		case errors.Is(err, kvstore.ErrUnavailable), errors.Is(err, kvstore.ErrConflict), ctx.Err() != nil:
		default:
			m.Board.Report(scope, fmt.Errorf("this host's record %s cannot be written, and it is not in the cluster until it is: %w",
				records.HostKey(m.Host.Name), err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// write writes the record as it is to be now: one writer could bring back what another
// has replaced.
func (m *Member) write(ctx context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	host := m.Host
	host.Ends = m.ends
	return records.PutHost(ctx, m.Store, host)
}

// Encrypt has this host's record say that its ends of encrypted networks are these. It
// returns once that is written, or when ctx ends.
func (m *Member) Encrypt(ctx context.Context, ends fabric.Ends) error {
	m.writing.Lock()
	m.ends = ends
	m.writing.Unlock()
	return m.announce(ctx)
}

// HostsChanged takes in a change of the hosts' records, in the order of the
// changes. It writes this host's record again where that was deleted (this host
// was released while it was cut off) or overwritten (another took its name).
func (m *Member) HostsChanged(ctx context.Context, c kvstore.Change[fabric.Host]) {
	m.peers.hostsChanged(c)
	own, written := c.Put[m.Host.Name]
	_, unreadable := c.Bad[m.Host.Name]
	released := slices.Contains(c.Gone, m.Host.Name)
	if released {
		m.Log.Warn("this host was released from the cluster, which took it for gone; it joins again, restart its containers")
	}
	if released || unreadable || written && own.VTEP != m.Host.VTEP || c.First && !written {
		select {
		case m.again <- struct{}{}:
		default:
		}
	}
	for name, host := range c.Put {
		m.reportDuplicate(ctx, name, host)
	}
	for _, name := range c.Gone {
		m.Board.Report(twinScope(name), nil)
	}
}

// reportDuplicate reports another live host with this one's VTEP: of two that start at
// the same moment, neither is refused.
func (m *Member) reportDuplicate(ctx context.Context, name string, host fabric.Host) {
	if name == m.Host.Name {
		return
	}
	if host.VTEP == m.Host.VTEP {
		if _, err := m.Store.Get(ctx, records.AliveKey(name)); err == nil {
			m.Board.Report(twinScope(name), fmt.Errorf("host %s has this host's VTEP %s: traffic to both is lost; give one another --vtep", name, host.VTEP))
			return
		}
	}
	m.Board.Report(twinScope(name), nil)
}

func twinScope(host string) health.Scope {
	return health.Scope{Part: health.Membership, Object: "vtep of " + host}
}
