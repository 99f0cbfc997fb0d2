package kvstore

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/loopback"
)

// backend is a kind of store that the conformance suite runs on.
type backend struct {
	name string
	open func(t *testing.T) Store
}

func backends() []backend {
	return []backend{
		{"embedded", func(t *testing.T) Store { return startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir()}) }},
		{"embedded over TCP", func(t *testing.T) Store {
			server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
			return open(t, Config{Endpoints: []string{server.Endpoint()}})
		}},
		{"external", func(t *testing.T) Store {
			server := newExternal(t)
			server.start(t)
			return open(t, Config{Endpoints: []string{server.endpoint}})
		}},
	}
}

func startEmbedded(t *testing.T, config EmbeddedConfig) *Embedded {
	t.Helper()
	e, err := StartEmbedded(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, e) })
	return e
}

func open(t *testing.T, config Config) *Etcd {
	t.Helper()
	e, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, e) })
	return e
}

func closeStore(t *testing.T, store io.Closer) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// external is an etcd in a process of its own.
type external struct {
	binary, dir, endpoint, peer string
	process                     *exec.Cmd
}

func newExternal(t *testing.T) *external {
	t.Helper()
	binary, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("no etcd in PATH: install the package etcd-server")
	}
	return &external{
		binary: binary, dir: t.TempDir(),
		endpoint: "http://" + loopback.Next().String(), peer: "http://" + loopback.Next().String(),
	}
}

func (x *external) start(t *testing.T) {
	t.Helper()
	x.process = exec.Command(x.binary, "--data-dir", x.dir,
		"--listen-client-urls", x.endpoint, "--advertise-client-urls", x.endpoint,
		"--listen-peer-urls", x.peer, "--initial-advertise-peer-urls", x.peer,
		"--initial-cluster", "default="+x.peer, "--heartbeat-interval", "20", "--election-timeout", "100")
	if err := x.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.stop)
}

func (x *external) stop() {
	if x.process != nil {
		_ = x.process.Process.Kill()
		_ = x.process.Wait() // killed, as it says
		x.process = nil
	}
}

// rawEtcd gives the etcd client below store, and the prefix of its keys.
func rawEtcd(t *testing.T, store Store) (*clientv3.Client, string) {
	t.Helper()
	if err := store.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if embedded, ok := store.(*Embedded); ok {
		return embedded.client, embedded.prefix
	}
	etcd := store.(*Etcd)
	return etcd.client, etcd.prefix
}

func recordedBoard() (*health.Board, *test.Hook) {
	logger, hook := test.NewNullLogger()
	return health.New(logrus.NewEntry(logger)), hook
}

// seen is one call of a Follow's handle.
type seen struct {
	revision int64
	items    map[string]string
	changed  []string
}

// follow starts a Follow and gives a function that waits until one of its
// snapshots meets a condition, and returns that one.
func follow(t *testing.T, store Store, prefix string) func(what string, met func(seen) bool) seen {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls, done := make(chan seen, 1000), make(chan error, 1)
	go func() {
		done <- store.Follow(ctx, prefix, func(s Snapshot) {
			call := seen{s.Revision, make(map[string]string), append([]string(nil), s.Changed...)}
			for key, item := range s.Items {
				call.items[key] = string(item.Value)
			}
			calls <- call
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow returned %v at the end of its context", err)
		}
	})
	return func(what string, met func(seen) bool) seen {
		t.Helper()
		deadline := time.After(15 * time.Second)
		for {
			select {
			case call := <-calls:
				if met(call) {
					return call
				}
			case <-deadline:
				t.Fatalf("Follow of %q never showed: %s", prefix, what)
			}
		}
	}
}

func always(seen) bool { return true }

func has(key string) func(seen) bool {
	return func(s seen) bool { _, ok := s.items[key]; return ok }
}

func lacks(key string) func(seen) bool {
	return func(s seen) bool { return !has(key)(s) }
}

// faulty says whether scope is on the board.
func faulty(board *health.Board, scope health.Scope) bool {
	return slices.ContainsFunc(board.Faults(), func(f health.Fault) bool { return f.Scope == scope })
}
