// Package faults kills this process at a step that a test names, or another one such as the
// engine's, as a crash does (serve --fault-points).
//
// A step's path: what writes to the store or a data plane goes through [Points.Store]
// and [Points.Planes], which call [Points.Pass] before and after each write with a name
// such as "CreateEndpoint: before commit": what Docker asked for, and what is done. Passes
// are counted, so that a test reads from a run without a fault which steps there are
// (GET), and then has the process killed at the n-th pass of each (POST): a step that is
// new is tried by itself. Without the flag nothing is wrapped.
package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
)

// Path is where the agent's socket has [Points.ServeHTTP].
const Path = "/debug/faultpoints"

// Points are the steps of a process. Use New.
type Points struct {
	mu     sync.Mutex // guards what follows
	passes map[string]int
	at     string // the step to kill at; empty: none
	left   int    // passes until then
	victim int    // the process that is killed
}

// New makes Points at which nobody is killed yet.
func New() *Points { return &Points{passes: map[string]int{}} }

// Pass notes that a step is reached, and does not return if this process is killed there.
func (p *Points) Pass(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passes[step]++
	if step != p.at {
		return
	}
	if p.left--; p.left != 0 {
		return
	}
	_ = syscall.Kill(p.victim, syscall.SIGKILL)
	if p.victim == os.Getpid() {
		select {} // until it arrives
	}
}

// ServeHTTP answers GET with how often each step was passed since the last POST, and
// takes by POST ?at=STEP&pass=N the step to die at; without at, none. With &kill=PID that
// process is killed there in place of this one.
func (p *Points) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.seen()) // the caller hung up
		return
	}
	pass, err := strconv.Atoi(r.FormValue("pass"))
	if r.FormValue("at") != "" && (err != nil || pass < 1) {
		http.Error(w, fmt.Sprintf("pass=%q must be a number from 1 on", r.FormValue("pass")), http.StatusBadRequest)
		return
	}
	victim := os.Getpid()
	if text := r.FormValue("kill"); text != "" {
		if victim, err = strconv.Atoi(text); err != nil || victim < 2 {
			http.Error(w, fmt.Sprintf("kill=%q must be the ID of a process", text), http.StatusBadRequest)
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.passes)
	p.at, p.left, p.victim = r.FormValue("at"), pass, victim
}

func (p *Points) seen() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.passes)
}

// around does something between two steps that are named after it.
func (p *Points) around(ctx context.Context, what string, do func() error) error {
	call := plugin.CallOf(ctx)
	if call == "" {
		call = "background"
	}
	p.Pass(call + ": before " + what)
	err := do()
	p.Pass(call + ": after " + what)
	return err
}

// Store is store with a step before and after each commit.
func (p *Points) Store(store kvstore.Store) kvstore.Store { return &pointedStore{store, p} }

type pointedStore struct {
	kvstore.Store
	points *Points
}

func (s *pointedStore) Commit(ctx context.Context, txn kvstore.Txn) (revision int64, err error) {
	err = s.points.around(ctx, "commit", func() error {
		revision, err = s.Store.Commit(ctx, txn)
		return err
	})
	return revision, err
}

// Planes are the planes with a step before and after each of their writes.
func (p *Points) Planes(planes map[fabric.Mode]fabric.Dataplane) map[fabric.Mode]fabric.Dataplane {
	pointed := make(map[fabric.Mode]fabric.Dataplane, len(planes))
	for mode, plane := range planes {
		pointed[mode] = &pointedPlane{plane, p}
	}
	return pointed
}

type pointedPlane struct {
	fabric.Dataplane
	points *Points
}

func (d *pointedPlane) Apply(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	err = d.points.around(ctx, "Apply", func() error {
		repaired, err = d.Dataplane.Apply(ctx, segment)
		return err
	})
	return repaired, err
}

func (d *pointedPlane) Update(ctx context.Context, delta fabric.Delta) error {
	return d.points.around(ctx, "Update", func() error { return d.Dataplane.Update(ctx, delta) })
}

func (d *pointedPlane) Plug(ctx context.Context, segment fabric.Segment, endpoint fabric.Endpoint) (link string, err error) {
	err = d.points.around(ctx, "Plug", func() error {
		link, err = d.Dataplane.Plug(ctx, segment, endpoint)
		return err
	})
	return link, err
}

func (d *pointedPlane) Prune(ctx context.Context, keep []fabric.Segment) error {
	return d.points.around(ctx, "Prune", func() error { return d.Dataplane.Prune(ctx, keep) })
}
