// Package mirror makes each cluster network appear in the local Docker engine,
// and each network that is made there known to the cluster by its name.
//
// A network travels so. "docker network create -d causeway foo" on h1 reaches
// the driver, which records it without a name: engines tell drivers none. The
// mirror of h1 sees the engine's event, reads name, labels and ranges from the
// engine, and adds them to the record (adopt.go). The mirrors of the other hosts
// follow the records and create foo in their engines, tied to the record by
// -o causeway.network (create.go). When the record goes, so do their networks.
// A host that was released comes back with networks that nothing ties to the
// records any more: they are tied again (retie.go).
//
// Nothing is told by an event: each is a reason to compare the records with the
// engine once more (compare.go) and to do what is missing. No handler waits for
// the mirror, and it talks to the engine from its own goroutine only: the engine
// calls our handlers while it creates a network.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Config says what to mirror. All fields are required.
type Config struct {
	Host  string
	Store kvstore.Store
	// Socket is the engine's.
	Socket string
	// Driver is the name under which the engine finds causeway.
	Driver string
	// Forget unties Docker's network of that ID: the engine lost it while nobody
	// told the driver.
	Forget func(ctx context.Context, dockerID string) error
	// Ready waits until this host may act in the cluster.
	Ready func(ctx context.Context) error
	Log   *logrus.Entry
}

const (
	// again is how long a fault rests before it is tried again.
	again = 2 * time.Second
	// whole is how often all is compared though nothing was heard.
	whole = time.Minute
	// patience is how long the engine may take from telling the driver of a
	// network to listing it.
	patience = 15 * time.Second
	// settling is how long the engine may list a network after it told the driver
	// of its end.
	settling = 5 * time.Second
)

// Mirror compares and mends until it is stopped.
type Mirror struct {
	Config
	wake chan struct{}
	// named are the containers' names that are in the records, by Docker's
	// NetworkID and endpoint. Only the working goroutine uses it.
	named map[string]map[string]string
	// displaced are the containers without a place in the cluster, by Docker's
	// NetworkID and endpoint; a network stays until it has none. Only the working
	// goroutine uses it, and strays: networks without an attachment, since when.
	displaced map[string]map[string]string
	strays    map[string]time.Time
	looked    bool // for displaced containers, after the start

	mu          sync.Mutex // guards all below
	networks    map[string]fabric.Network
	attachments map[string]records.Attachment // of this host, by Docker's NetworkID
	read        map[string]bool               // the prefixes that were read once
	troubles    map[string]string             // by what they concern
	seen        map[string]bool               // cluster networks that the engine has had
	unnamed     map[string]bool               // Docker's networks that a container came to
	unheard     bool                          // containers may have come while the engine was not listened to
	missing     map[string]time.Time          // attachments without a network in the engine, since when
}

// New makes a Mirror; nothing happens before Run.
func New(config Config) *Mirror {
	return &Mirror{
		Config: config, wake: make(chan struct{}, 1),
		named: map[string]map[string]string{}, unnamed: map[string]bool{},
		displaced: map[string]map[string]string{},
		read:      map[string]bool{}, troubles: map[string]string{}, seen: map[string]bool{},
	}
}

// Troubles tells what could not be done, as sentences.
func (m *Mirror) Troubles() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Values(m.troubles))
}

// Run mirrors until ctx ends. An engine that is away is waited for.
func (m *Mirror) Run(ctx context.Context) error {
	local, err := openEngine(m.Socket)
	if err != nil {
		return err
	}
	defer local.close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return m.Store.Follow(ctx, records.NetworksPrefix, func(s kvstore.Snapshot) {
			keep(m, records.NetworksPrefix, s, &m.networks)
		})
	})
	prefix := records.HostAttachments(m.Host)
	group.Go(func() error {
		return m.Store.Follow(ctx, prefix, func(s kvstore.Snapshot) { keep(m, prefix, s, &m.attachments) })
	})
	group.Go(func() error { return m.listen(ctx, local) })
	group.Go(func() error { return m.work(ctx, local) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// keep stores what is below prefix now. Records that cannot be read count as not there.
func keep[T any](m *Mirror, prefix string, snapshot kvstore.Snapshot, table *map[string]T) {
	values, err := kvstore.DecodeAll[T](snapshot, prefix)
	m.trouble(prefix, err)
	m.mu.Lock()
	*table = values
	m.read[prefix] = true
	m.mu.Unlock()
	m.kick()
}

func (m *Mirror) kick() {
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// listen watches the engine's events, and waits for it while it is away.
func (m *Mirror) listen(ctx context.Context, local *engine) error {
	begun := func() {
		m.listening()
		m.trouble("plugins/", m.hidden(ctx, local))
	}
	heard := func(event events.Message) {
		switch {
		case event.Type == events.PluginEventType:
			m.trouble("plugins/", m.hidden(ctx, local))
		case event.Action == events.ActionCreate, event.Action == events.ActionDestroy:
			m.kick()
		case event.Action == events.ActionConnect:
			m.connected(event.Actor.ID)
		}
	}
	for {
		err := local.watch(ctx, begun, heard)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.trouble("engine", m.away(err))
		if err := pause(ctx, again); err != nil {
			return err
		}
	}
}

// hidden says that the engine does not find the driver by its plain name. It
// takes a managed plugin of that name with the tag latest for the one that is
// meant, and then looks no further.
func (m *Mirror) hidden(ctx context.Context, local *engine) error {
	name := m.Driver + ":latest"
	has, err := local.hasPlugin(ctx, name)
	if err != nil || !has {
		return nil // the engine is away, which is told elsewhere
	}
	return fmt.Errorf("the managed plugin %s hides the driver %s from this engine: disable and remove it, and install it without --alias, or with another such as --alias %s:0.1",
		name, m.Driver, m.Driver)
}

// away says that the engine does not answer; the usual reason goes without saying.
func (m *Mirror) away(err error) error {
	if client.IsErrConnectionFailed(err) {
		return fmt.Errorf("no Docker engine answers at %s", m.Socket)
	}
	return fmt.Errorf("the Docker engine at %s: %w", m.Socket, err)
}

// work compares whenever there is a reason to.
func (m *Mirror) work(ctx context.Context, local *engine) error {
	for {
		if err := m.Ready(ctx); err != nil {
			return err
		}
		wait := whole
		if !m.mend(ctx, local) {
			wait = again
		}
		m.nameEndpoints(ctx, local)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.wake:
		case <-time.After(wait):
		}
	}
}

// mend brings engine and records together, and says whether nothing is left to do.
func (m *Mirror) mend(ctx context.Context, local *engine) bool {
	m.mu.Lock()
	ready := len(m.read) == 2
	view := view{networks: m.networks, attachments: m.attachments, lost: map[string]bool{}, stray: map[string]bool{}, driver: m.Driver}
	m.mu.Unlock()
	if !ready {
		return true // the records wake us
	}
	var err error
	if view.local, err = local.networks(ctx); err != nil {
		if ctx.Err() == nil {
			m.trouble("engine", m.away(err))
		}
		return false
	}
	m.trouble("engine", nil)
	m.remember(view)
	m.rememberStrays(view)
	steps := compare(view)
	done := len(steps) == 0
	concerned := map[string]bool{"engine": true}
	for _, step := range steps {
		concerned[step.about()] = true
		m.trouble(step.about(), m.take(ctx, local, step))
	}
	m.forget(concerned)
	m.checkPlaces(ctx, local, view)
	return done && len(m.missing) == 0 && len(m.strays) == 0 && len(m.displaced) == 0
}

// forget drops the troubles of what is no longer to be done.
func (m *Mirror) forget(concerned map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for about := range m.troubles {
		if !concerned[about] && !strings.HasSuffix(about, "/") {
			delete(m.troubles, about)
		}
	}
}

// remember notes which networks the engine has, to tell one that was removed
// here from one that was never made, and which it has lost.
func (m *Mirror) remember(v view) {
	missing := make(map[string]time.Time)
	for dockerID := range v.attachments {
		missing[dockerID] = time.Now()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, network := range v.local {
		if attachment, ok := v.attachments[network.ID]; ok {
			m.seen[attachment.Network] = true
			delete(missing, network.ID)
		}
	}
	for dockerID := range missing {
		if since, known := m.missing[dockerID]; known {
			missing[dockerID] = since
			v.lost[dockerID] = time.Since(since) > patience
		}
	}
	m.missing = missing
}

// trouble notes that something cannot be done, or with nil that it can; the log
// gets each once.
func (m *Mirror) trouble(about string, err error) {
	m.mu.Lock()
	last, known := m.troubles[about]
	if err == nil {
		delete(m.troubles, about)
	} else {
		m.troubles[about] = err.Error()
	}
	m.mu.Unlock()
	switch {
	case err != nil && err.Error() != last:
		m.Log.Warnf("mirror: %v; trying again", err)
	case err == nil && known:
		m.Log.Infof("mirror: over: %s", last)
	}
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
