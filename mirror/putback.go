package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
)

const (
	// putBackAfter is the time from the removal of a network to its return. A tool
	// that recreates a network under its name does so at once: it reaches the
	// driver first, which refuses it and says why (see [Mirror.PutBack]). And what
	// other hosts write about their containers arrives meanwhile.
	putBackAfter = time.Second
	// noticeTime is how long status has the notice of a network that was put back, unless a
	// container uses it before.
	noticeTime = time.Hour
)

// putBacks are the cluster's networks that were removed from this engine and
// have to come back, and those that did. Safe for concurrent use.
type putBacks struct {
	mu       sync.Mutex
	clusters map[string]string   // cluster networks that the engine has had, by Docker's NetworkID
	gone     map[string]bool     // Docker's NetworkIDs that the engine said it removed
	pending  map[string]*removal // by cluster network
	notices  map[string]notice   // by cluster network
}

// removal is a network that was removed here.
type removal struct {
	dockerID string
	at       time.Time
	outage   bool          // the driver could not reach the store
	wanted   bool          // a handler waits for it
	done     chan struct{} // closed when it is back, or cannot be
}

// notice says in status that a network was put back.
type notice struct {
	dockerID string
	until    time.Time
}

func newPutBacks() *putBacks {
	return &putBacks{
		clusters: make(map[string]string), gone: make(map[string]bool),
		pending: make(map[string]*removal), notices: make(map[string]notice),
	}
}

// Removing tells the mirror that Docker is removing its network dockerID, which is
// the cluster's network: it is put back if it stays in the cluster.
func (m *Mirror) Removing(dockerID, network string) {
	m.putBacks.add(dockerID, network, false)
	time.AfterFunc(putBackAfter, m.kick)
}

// removedHere notes that the engine removed one of its networks.
func (m *Mirror) removedHere(dockerID string) {
	if network, ours := m.putBacks.destroy(dockerID); ours {
		m.putBacks.add(dockerID, network, false)
		time.AfterFunc(putBackAfter, m.kick)
	}
}

// destroy notes the end of an engine's network, and says which of the cluster's
// it was.
func (b *putBacks) destroy(dockerID string) (network string, ours bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if network, ours = b.clusters[dockerID]; ours {
		b.gone[dockerID] = true
		delete(b.clusters, dockerID)
	}
	return network, ours
}

// destroyed says that the engine removed its network dockerID.
func (b *putBacks) destroyed(dockerID string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone[dockerID]
}

func (b *putBacks) add(dockerID, network string, outage bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[network] == nil {
		b.pending[network] = &removal{dockerID: dockerID, at: time.Now(), done: make(chan struct{})}
	}
	b.pending[network].outage = b.pending[network].outage || outage
}

// observe takes in what the engine has now. A removal ends when the network is
// gone from the cluster, or is here again.
func (b *putBacks) observe(s state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for dockerID := range b.clusters {
		// The engine lists a network no more before it says that it removed it.
		if _, attached := s.attachments[dockerID]; !attached {
			delete(b.clusters, dockerID)
		}
	}
	for _, local := range s.local {
		if attachment, ours := s.attachments[local.ID]; ours && !b.gone[local.ID] {
			b.clusters[local.ID] = attachment.Network
			if removal := b.pending[attachment.Network]; removal != nil && removal.dockerID != local.ID {
				b.end(attachment.Network)
			}
		}
	}
	for id := range b.pending {
		if _, known := s.networks[id]; !known {
			b.end(id)
		}
	}
	for dockerID := range b.gone {
		if _, attached := s.attachments[dockerID]; !attached {
			delete(b.gone, dockerID)
		}
	}
}

// end needs the lock.
func (b *putBacks) end(network string) {
	if removal := b.pending[network]; removal != nil {
		close(removal.done)
		delete(b.pending, network)
	}
}

func (b *putBacks) finish(network string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end(network)
}

// removed are the networks to put back.
func (b *putBacks) removed() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := make(map[string]bool, len(b.pending))
	for id := range b.pending {
		found[id] = true
	}
	return found
}

// due says whether a network is to be put back now.
func (b *putBacks) due(network string) (outage, due bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	removal := b.pending[network]
	if removal == nil {
		return false, true
	}
	return removal.outage, removal.wanted || time.Since(removal.at) >= putBackAfter
}

// putBack creates a network again that was removed here, when others use it;
// else the removal is finished in the cluster.
func (m *Mirror) putBack(ctx context.Context, cluster fabric.Network) error {
	outage, due := m.putBacks.due(cluster.ID)
	if !due {
		return nil // a later pass does it
	}
	users, err := m.users(ctx, cluster)
	if err != nil {
		return err
	}
	defer m.putBacks.finish(cluster.ID)
	if len(users) == 0 {
		err := m.records().DeleteNetwork(ctx, cluster.ID)
		if err == nil || errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if errors.Is(err, kvstore.ErrUnavailable) {
			return err
		}
	}
	dockerID, err := m.create(ctx, cluster)
	if err != nil || dockerID == "" {
		return err
	}
	m.reportPutBack(cluster, dockerID, users, outage)
	return nil
}

// reportPutBack reports to the log and to status that a removal had no effect.
func (m *Mirror) reportPutBack(cluster fabric.Network, dockerID string, users []string, outage bool) {
	when, reason := "", "a container came to it meanwhile"
	if outage {
		when = " while the store was away"
	}
	if len(users) > 0 {
		reason = "in use on " + strings.Join(users, ", ")
	}
	m.putBacks.mu.Lock()
	m.putBacks.notices[cluster.ID] = notice{dockerID: dockerID, until: time.Now().Add(noticeTime)}
	m.putBacks.mu.Unlock()
	m.Board.Report(health.Scope{Part: health.PutBack, Object: cluster.ID},
		fmt.Errorf("network %s was removed here%s and put back: %s", cluster.Name, when, reason))
}

// used ends the notice of a network that was put back: a container came to it.
func (m *Mirror) used(dockerID string) {
	m.putBacks.mu.Lock()
	for id, notice := range m.putBacks.notices {
		if notice.dockerID == dockerID {
			delete(m.putBacks.notices, id)
		}
	}
	m.putBacks.mu.Unlock()
	m.retainNotices()
}

// expireNotices ends the notices of networks that are gone or came back long ago.
func (m *Mirror) expireNotices(s state) {
	m.putBacks.mu.Lock()
	for id, notice := range m.putBacks.notices {
		if _, known := s.networks[id]; !known || time.Now().After(notice.until) {
			delete(m.putBacks.notices, id)
		}
	}
	m.putBacks.mu.Unlock()
	m.retainNotices()
}

func (m *Mirror) retainNotices() {
	m.Board.Retain(health.PutBack, func(network string) bool {
		m.putBacks.mu.Lock()
		defer m.putBacks.mu.Unlock()
		_, keep := m.putBacks.notices[network]
		return keep
	})
}
