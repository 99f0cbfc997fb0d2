package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// object is a JSON object of the engine's API.
type object = map[string]any

// fakeEngine has networks and containers, and answers what the mirror asks.
type fakeEngine struct {
	mu         sync.Mutex
	networks   []object
	containers map[string]object // as inspected, by ID
	events     chan object
	lists      atomic.Int32 // of networks
	// creating is called, as the driver is, while a network is created.
	creating func(id string)
	// busy is held while a network is created whose name the mirror wants.
	busy sync.Mutex
}

func newFakeEngine(networks ...object) *fakeEngine {
	gateway := object{"Id": strings.Repeat("f", 64), "Name": gatewayBridge, "Scope": "local", "Driver": "bridge",
		"IPAM": object{"Config": []object{{"Subnet": "172.18.0.0/16"}}}}
	return &fakeEngine{networks: append(networks, gateway), containers: map[string]object{}, events: make(chan object), creating: func(string) {}}
}

// set changes what the engine has.
func (e *fakeEngine) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// emit sends an event of kind ("network destroy") about an object.
func (e *fakeEngine) emit(t *testing.T, kind, id string, attributes object) {
	t.Helper()
	part, action, _ := strings.Cut(kind, " ")
	select {
	case e.events <- object{"Type": part, "Action": action, "Actor": object{"ID": id, "Attributes": attributes}}:
	case <-time.After(20 * time.Second):
		t.Fatalf("nobody hears %s", kind)
	}
}

// has says whether the engine has a network of that name.
func (e *fakeEngine) has(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.networks, func(n object) bool { return n["Name"] == name })
}

// drop removes a network.
func (e *fakeEngine) drop(id string) {
	e.set(func() { e.networks = slices.DeleteFunc(e.networks, func(n object) bool { return n["Id"] == id }) })
}

// destroy removes a network and sends the event.
func (e *fakeEngine) destroy(t *testing.T, id string) {
	t.Helper()
	e.drop(id)
	e.emit(t, "network destroy", id, nil)
}

// serve answers at a socket until the test ends, and gives its path.
func (e *fakeEngine) serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.44") })
	mux.HandleFunc("GET /{version}/events", e.stream)
	mux.HandleFunc("GET /{version}/plugins", func(w http.ResponseWriter, _ *http.Request) { answer(w, []any{}) })
	mux.HandleFunc("GET /{version}/networks", func(w http.ResponseWriter, _ *http.Request) {
		e.lists.Add(1)
		e.set(func() { answer(w, e.networks) })
	})
	mux.HandleFunc("POST /{version}/networks/create", e.create)
	mux.HandleFunc("GET /{version}/networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		e.set(func() {
			i := slices.IndexFunc(e.networks, func(n object) bool { return n["Id"] == r.PathValue("id") })
			if i < 0 {
				http.NotFound(w, r)
				return
			}
			answer(w, e.networks[i])
		})
	})
	mux.HandleFunc("GET /{version}/containers/json", e.listContainers)
	mux.HandleFunc("GET /{version}/containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		e.set(func() {
			if found, there := e.containers[r.PathValue("id")]; there {
				answer(w, found)
			} else {
				http.NotFound(w, r)
			}
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	server := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		cancel()
		_ = server.Close()
	})
	return path
}

func (e *fakeEngine) stream(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w).Flush
	_ = flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-e.events:
			_ = json.NewEncoder(w).Encode(event)
			_ = flush()
		}
	}
}

// create is one network of a name at a time, as in engines from 25.0 on.
func (e *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	var made object
	_ = json.NewDecoder(r.Body).Decode(&made)
	e.busy.Lock()
	defer e.busy.Unlock()
	e.mu.Lock()
	made["Id"] = fmt.Sprintf("%064d", len(e.networks)+100)
	made["Scope"] = "local"
	e.networks = append(e.networks, made)
	e.mu.Unlock()
	if made["Driver"] == "causeway" {
		e.creating(made["Id"].(string))
	}
	w.WriteHeader(http.StatusCreated)
	answer(w, object{"Id": made["Id"]})
}

// listContainers lists all, or those on the network of the filter.
func (e *fakeEngine) listContainers(w http.ResponseWriter, _ *http.Request) {
	list := []object{}
	e.set(func() {
		for id, found := range e.containers {
			list = append(list, object{"Id": id, "NetworkSettings": found["NetworkSettings"]})
		}
	})
	answer(w, list)
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// rig is a mirror of host h2 that runs on a fake engine.
type rig struct {
	*testing.T
	mirror *Mirror
	board  *health.Board
	store  kvstore.Store
}

// start runs a mirror until the test ends, on the records that ops make.
func start(t *testing.T, engine *fakeEngine, store kvstore.Store, ops ...kvstore.Op) *rig {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	board := health.New(logrus.NewEntry(log))
	r := &rig{T: t, board: board, store: store}
	r.put(ops...)
	m, err := New(Config{
		Host: "h2", Store: store, Socket: engine.serve(t), Driver: "causeway", Board: board, Log: logrus.NewEntry(log),
		Ready: func(context.Context) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.mirror = m
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) put(ops ...kvstore.Op) {
	r.Helper()
	if _, err := r.store.Commit(r.Context(), kvstore.Txn{Then: ops}); err != nil {
		r.Fatal(err)
	}
}

// attaches has the engine's creations recorded as the driver does.
func (r *rig) attaches(network string) func(string) {
	return func(id string) {
		r.put(kvstore.Put(records.AttachmentKey("h2", id), records.Attachment{Network: network, Pending: true}),
			kvstore.Put(records.MemberKey(network, "h2"), records.Member{Mirror: true}))
	}
}

// tells waits until the faults are those.
func (r *rig) tells(want ...string) {
	r.Helper()
	var got []string
	r.waitFor(fmt.Sprintf("the faults %q", want), func() bool {
		got = nil
		for _, fault := range r.board.Faults() {
			got = append(got, fault.Text)
		}
		return slices.Equal(got, want)
	})
}

func (r *rig) waitFor(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("never came: %s; faults are %v", what, r.board.Faults())
		}
	}
}
