package kvstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"google.golang.org/grpc/connectivity"

	"github.com/causeway-net/causeway/internal/loopback"
)

// server is an etcd that a test stops and starts at one address.
type server struct {
	endpoint    string
	start, stop func(t *testing.T)
}

func embeddedServer(t *testing.T) server {
	config := EmbeddedConfig{DataDir: t.TempDir(), Listen: "http://" + loopback.Next().String()}
	var running *Embedded
	return server{
		endpoint: config.Listen,
		start:    func(t *testing.T) { running = startEmbedded(t, config) },
		stop:     func(t *testing.T) { closeStore(t, running) },
	}
}

func externalServer(t *testing.T) server {
	x := newExternal(t)
	return server{endpoint: x.endpoint, start: x.start, stop: func(*testing.T) { x.stop() }}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) server{"embedded": embeddedServer, "external": externalServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testOutage(t, make(t))
		})
	}
}

func testOutage(t *testing.T, server server) {
	board, logged := recordedBoard()
	store := open(t, Config{Endpoints: []string{server.endpoint}, Board: board})
	server.start(t)
	if err := store.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := follow(t, store, "outage/")
	next("the empty list", always)
	held := hold(t, store, "alive/h1")
	put(t, store, "outage/before", 1)
	next("a change", has("outage/before"))

	server.stop(t)
	conn := store.client.ActiveConnection()
	conn.WaitForStateChange(t.Context(), connectivity.Ready) // a write on the broken connection would say that it broke
	refusedInTime(t, server, store)
	waitLogged(t, logged, "unavailable")
	start := time.Now()
	if _, err := store.Get(FailFast(t.Context()), "outage/before"); !errors.Is(err, ErrUnavailable) || time.Since(start) > requestTimeout/4 {
		t.Errorf("in haste it took %v to say %v", time.Since(start), err)
	}

	server.start(t)
	other := open(t, Config{Endpoints: []string{server.endpoint}})
	putOnce(t, other, "outage/after")
	next("a change after the outage", has("outage/after"))
	held("the record after the outage", has("alive/h1"))
	waitLogged(t, logged, "recovered: store "+server.endpoint+" unavailable")
	if n := len(logged.AllEntries()); n != 2 {
		for _, entry := range logged.AllEntries() {
			t.Log(entry.Level, entry.Message, entry.Data)
		}
		t.Errorf("the outage took %d lines in the log", n)
	}
}

// refusedInTime expects requests to fail, for the right reason, while the server is away.
func refusedInTime(t *testing.T, server server, store Store) {
	t.Helper()
	start := time.Now()
	failed := make(chan error)
	go func() {
		_, err := store.Get(t.Context(), "outage/before")
		failed <- err
	}()
	go func() {
		_, err := store.Commit(t.Context(), Txn{Then: []Op{Put("outage/lost", 1)}})
		failed <- err
	}()
	for range 2 {
		err := <-failed
		if want := "store " + server.endpoint + " unavailable: connection refused"; !errors.Is(err, ErrUnavailable) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if took := time.Since(start); took > requestTimeout+time.Second {
		t.Errorf("it took %v to say so", took)
	}
}

// hold holds key until the test ends, and follows it.
func hold(t *testing.T, store Store, key string) func(string, func(seen) bool) seen {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Hold(ctx, key, nil, 2*time.Second) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	next := follow(t, store, "alive/")
	next("the held record", has(key))
	return func(what string, met func(seen) bool) seen {
		t.Helper()
		return follow(t, store, "alive/")(what, met)
	}
}

// putOnce puts as soon as the store takes it.
func putOnce(t *testing.T, store Store, key string) {
	t.Helper()
	for wait := (pause{}); ; wait.after(t.Context()) {
		_, err := store.Commit(t.Context(), Txn{Then: []Op{Put(key, 1)}})
		if err == nil {
			return
		}
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

func waitLogged(t *testing.T, log *test.Hook, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for wait := (pause{}); ctx.Err() == nil; wait.after(ctx) {
		for _, entry := range log.AllEntries() {
			if strings.Contains(entry.Message, text) {
				return
			}
		}
	}
	t.Fatalf("never logged: %s", text)
}

func TestOpenDoesNotWait(t *testing.T) {
	t.Parallel()
	// A listener that never answers, and an address where nobody listens.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, silent) })
	for name, config := range map[string]Config{
		"connection refused": {Endpoints: []string{loopback.Next().String()}},
		"no answer in time":  {Endpoints: []string{silent.Addr().String()}, Username: "u", Password: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			store := open(t, config)
			if took := time.Since(start); took > time.Second {
				t.Errorf("Open took %v", took)
			}
			// Within this, gRPC also gives up a connection that says nothing (3 s).
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			err := store.Health(ctx)
			want := "store http://" + config.Endpoints[0] + " unavailable: " + name
			if !errors.Is(err, ErrUnavailable) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// A store that is gone and has a user holds no request beyond its time, nor Close.
func TestNoRequestOutlivesItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, silent)
	store, err := Open(Config{Endpoints: []string{"https://" + silent.Addr().String()}, Username: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	want := "store https://" + silent.Addr().String() + " unavailable: no answer in time"
	ended := make(chan error)
	// The last ones' time is up soon after the first attempt to connect is given up.
	const requests = 200
	for i := range requests {
		go func() {
			<-time.After(time.Duration(i) * 200 * time.Microsecond)
			ended <- store.Health(t.Context())
		}()
	}
	late := time.After(requestTimeout + 3*time.Second)
	for range requests {
		select {
		case err := <-ended:
			if !errors.Is(err, ErrUnavailable) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		case <-late:
			t.Fatal("a request hangs")
		}
	}
	start := time.Now()
	closeStore(t, store)
	if took := time.Since(start); took > time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]Config{
		"no endpoint":              {},
		"is not the address":       {Endpoints: []string{"ftp://h"}},
		"/no/ca.pem":               {Endpoints: []string{"h"}, CACert: "/no/ca.pem"},
		"/no/cert.pem":             {Endpoints: []string{"h"}, Cert: "/no/cert.pem", Key: "/no/key.pem"},
		"c.pem is given without":   {Endpoints: []string{"h"}, Cert: "c.pem"},
		"would be used without":    {Endpoints: []string{"http://h"}, CACert: "c.pem"},
		"endpoints mix http and h": {Endpoints: []string{"http://h", "https://h"}},
	} {
		if store, err := Open(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got store %v, error %v", want, store, err)
		}
	}
}
