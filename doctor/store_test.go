package doctor

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/loopback"
	"github.com/causeway-net/causeway/internal/pause"
	"github.com/causeway-net/causeway/kvstore"
)

// A store that answers late is a warning; one that is gone a problem, told once.
func TestStoreIsSlowOrGone(t *testing.T) {
	at := loopback.Next().String()
	etcd, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir(), Listen: "http://" + at, Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	var delay atomic.Int64
	proxy, stop := delayed(t, at, &delay)
	client, err := kvstore.Open(kvstore.Config{Endpoints: []string{"http://" + proxy}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	in := &Inputs{Store: client}
	if err := client.Health(t.Context()); err != nil { // and it is connected
		t.Fatal(err)
	}
	found, err := store(t.Context(), in)
	wantNone(t, found, err)

	delay.Store(int64(2 * slow))
	found, err = store(t.Context(), in)
	if f := wantOne(t, found, err, "The store is slow"); f.Severity != Warning || !strings.HasPrefix(f.Evidence, "a read took ") {
		t.Errorf("%+v", f)
	}

	stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	found, err = store(ctx, in)
	wantOne(t, found, err, "The store does not answer this host")
	in.Faults = []health.Fault{{Scope: health.Scope{Part: health.Store}}}
	found, err = store(ctx, in)
	wantNone(t, found, err)
}

// delayed passes what etcd answers on late.
func delayed(t *testing.T, etcd string, delay *atomic.Int64) (address string, stop func()) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", loopback.Next().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(ctx, conn, etcd, delay)
		}
	}()
	stop = func() { cancel(); listener.Close(); <-done }
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

// pass passes one connection on until it, or ctx, ends.
func pass(ctx context.Context, from net.Conn, to string, delay *atomic.Int64) {
	defer from.Close()
	etcd, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer etcd.Close()
	defer context.AfterFunc(ctx, func() { from.Close(); etcd.Close() })()
	go func() { _, _ = io.Copy(etcd, from); etcd.Close() }()
	answer := make([]byte, 64<<10)
	for {
		n, err := etcd.Read(answer)
		if err != nil || pause.For(ctx, time.Duration(delay.Load())) != nil {
			return
		}
		if _, err := from.Write(answer[:n]); err != nil {
			return
		}
	}
}
