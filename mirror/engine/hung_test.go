package engine

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

// While one request waits for an engine that takes requests and answers none, another's
// deadline holds.
func TestEngineThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket) // the kernel accepts, and nobody reads
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e, err := Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- e.Watch(ctx, func() {}, func(events.Message) {}) }()
	if _, err := listener.Accept(); err != nil { // it waits for its answer now
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := e.Endpoints(ctx, "foo")
		asked <- err
	}()
	select {
	case err := <-asked:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the question ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the question has no end")
	}
	cancel()
	if err := <-watched; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ends with %v", err)
	}
}
