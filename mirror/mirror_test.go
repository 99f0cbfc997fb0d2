package mirror

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// fakeEngine has networks and answers what the mirror asks.
type fakeEngine struct {
	mu       sync.Mutex
	networks []map[string]any
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
	mux.HandleFunc("GET /{version}/events", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("GET /{version}/plugins", func(w http.ResponseWriter, _ *http.Request) { answer(w, []any{}) })
	mux.HandleFunc("GET /{version}/networks", func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		answer(w, e.networks)
	})
	mux.HandleFunc("GET /{version}/networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, network := range e.networks {
			if network["Id"] == r.PathValue("id") {
				answer(w, network)
				return
			}
		}
		http.NotFound(w, r)
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

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// A host was released while it was away: its networks are attached again, and
// its containers, which lost their links, are named.
func TestComeback(t *testing.T) {
	const id = "0123456789ab"
	maker, mirrored := id+strings.Repeat("0", 52), strings.Repeat("f", 64)
	engine := &fakeEngine{networks: []map[string]any{
		{
			"Id": maker, "Name": "foo", "Scope": "local", "Driver": "127.0.0.1:5000/causeway:0.1", "IPAM": map[string]any{"Driver": "default"},
			"Containers": map[string]any{"c1": map[string]any{"Name": "busybox", "EndpointID": "e1"}},
		},
		{
			"Id": mirrored, "Name": "bar", "Scope": "local", "Driver": "causeway", "IPAM": map[string]any{"Driver": "causeway"},
			"Options": map[string]any{"causeway.network": "id:bbbbbbbbbbbb"},
		},
	}}
	store := kvstore.NewMemory()
	put := func(key string, value any) {
		t.Helper()
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, value)}}); err != nil {
			t.Fatal(err)
		}
	}
	put(records.NetworkKey(id), fabric.Network{ID: id, Name: "foo"})
	put(records.NetworkKey("bbbbbbbbbbbb"), fabric.Network{ID: "bbbbbbbbbbbb", Name: "bar"})

	log := logrus.New()
	log.SetOutput(t.Output())
	board := health.New(logrus.NewEntry(log))
	m, err := New(Config{
		Host: "h2", Store: store, Socket: engine.serve(t), Driver: "causeway", Board: board, Log: logrus.NewEntry(log),
		Ready: func(context.Context) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	for dockerID, want := range map[string]records.Attachment{
		maker: {Network: id, DockerIPAM: true}, mirrored: {Network: "bbbbbbbbbbbb"},
	} {
		waitFor(t, "the attachment of "+want.Network, func() bool {
			item, err := store.Get(t.Context(), records.AttachmentKey("h2", dockerID))
			if err != nil {
				return false
			}
			got, err := kvstore.Decode[records.Attachment](item)
			return err == nil && got == want
		})
	}
	told := []string{"network foo: these containers lost their place in the cluster, restart them: busybox"}
	waitFor(t, "the container's trouble", func() bool { return slices.Equal(faults(board), told) })
	put(records.EndpointKey(id, "e1"), fabric.Endpoint{ID: "e1", Network: id, Host: "h2"})
	waitFor(t, "no trouble", func() bool { return len(board.Faults()) == 0 })
}

func faults(board *health.Board) []string {
	var texts []string
	for _, fault := range board.Faults() {
		texts = append(texts, fault.Text)
	}
	return texts
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}
