// Package storetest gives tests a store: a prefix of its own in one embedded etcd
// that all tests of a package share.
package storetest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/kvstore"
)

// TB is what a test or a run of a property has.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
}

// server is the etcd of this test binary. It starts with the first New.
type server struct {
	willStop bool // Main runs
	once     sync.Once
	dir      string
	etcd     *kvstore.Embedded
	err      error
	stores   atomic.Int64
}

var shared server //nolint:gochecknoglobals // tests have no other place in common

func (s *server) start() {
	if s.dir, s.err = os.MkdirTemp("", "storetest"); s.err == nil {
		s.etcd, s.err = kvstore.StartEmbedded(context.Background(), kvstore.EmbeddedConfig{DataDir: s.dir, Volatile: true})
	}
}

func (s *server) stop() error {
	s.once.Do(func() {}) // none was needed
	if s.etcd != nil {
		if err := s.etcd.Close(); err != nil {
			return err
		}
	}
	if s.dir != "" {
		return os.RemoveAll(s.dir)
	}
	return nil
}

// New gives an empty store until the test ends. The package's TestMain must be Main.
func New(t TB) *kvstore.Etcd {
	t.Helper()
	if !shared.willStop {
		t.Fatal("the package needs: func TestMain(m *testing.M) { storetest.Main(m) }")
	}
	shared.once.Do(shared.start)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	store := shared.etcd.Open(fmt.Sprintf("/test/%d/", shared.stores.Add(1)), kvstore.Identity{}, nil)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return store
}

// Main is for a TestMain: it runs the tests, stops the etcd and finds goroutines
// that are left.
func Main(m *testing.M) {
	shared.willStop = true
	goleak.VerifyTestMain(runner{m})
}

type runner struct{ *testing.M }

// Run implements [goleak.TestingM].
func (r runner) Run() int {
	code := r.M.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "storetest:", err)
		return 1
	}
	return code
}
