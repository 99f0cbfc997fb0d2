// Package ui is the page of "causeway ui", which shows the cluster as one host sees it.
//
// A change's path: the agent tells of a record that changed (source.go); the model makes
// the object of it that the page shows (model.go); the hub notes its key for each page that
// is open (hub.go); each takes what was noted and sends it as one server-sent event
// (events.go); the page's script merges it and draws what is in view (page/). Records are
// never asked for again. What has to be asked again and again, doctor (examine.go) and the
// counters of traffic (traffic.go), is asked only while a page is open.
//
// The page is only read, and served on loopback or a unix socket alone (listen.go, door.go).
package ui

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/internal/talk"
)

//go:embed page
var files embed.FS //nolint:gochecknoglobals // embed has no other place

// Source is where the page's data come from: the agent of this host.
type Source interface {
	// Follow tells of the records, until ctx ends or the agent does.
	Follow(ctx context.Context, take func(agent.Change)) error
	// Doctor looks for what is wrong, on all hosts, and tries their tunnels; it measures who
	// talks to whom on the others.
	Doctor(ctx context.Context, whom agent.Whom) (doctor.Diagnosis, error)
	// Traffic reads the counters of this host's devices.
	Traffic(ctx context.Context) (agent.Traffic, error)
	// Talk measures who talks to whom on this host.
	Talk(ctx context.Context) ([]talk.Conversation, error)
}

// Config is what a page is served with.
type Config struct {
	Source Source
	// DoctorEvery is how often doctor is asked while a page is open.
	DoctorEvery time.Duration
	Log         *logrus.Entry
}

// Serve serves the page on listener, and closes it, until ctx ends.
func Serve(ctx context.Context, config Config, listener net.Listener) error {
	h := newHub()
	pages, err := handler(h)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	server := &http.Server{
		Handler: pages, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }, // pages that are open end with it
	}
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := server.Shutdown(finish); err != nil {
			return server.Close()
		}
		return nil
	})
	group.Go(func() error { follow(ctx, config, h); return nil })
	e := &examiner{source: config.Source, hub: h, tried: map[string][]doctor.Tunnel{}}
	group.Go(func() error { whileWatched(ctx, h, config.DoctorEvery, e.examine); return nil })
	m := &meter{source: config.Source, hub: h}
	group.Go(func() error { whileWatched(ctx, h, meterEvery, m.read); return nil })
	l := &ear{source: config.Source, hub: h}
	group.Go(func() error { whileWatched(ctx, h, meterEvery, l.listen); return nil })
	return group.Wait()
}

func handler(h *hub) (http.Handler, error) {
	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, fmt.Errorf("the page's files: %w", err)
	}
	mux := http.NewServeMux()
	static := http.FileServerFS(page)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // of another version after an update
		static.ServeHTTP(w, r)
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) { events(w, r, h) })
	return door(mux), nil
}
