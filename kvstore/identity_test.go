package kvstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/loopback"
)

// replaced makes a server and, for while it is stopped, what puts another in its place.
func replacedEmbedded(fill func(t *testing.T, dir string)) func(*testing.T) (server, func()) {
	return func(t *testing.T) (server, func()) {
		config := EmbeddedConfig{DataDir: t.TempDir(), Listen: "http://" + loopback.Next().String()}
		var running *Embedded
		s := server{
			endpoint: config.Listen,
			start:    func(t *testing.T) { running = startEmbedded(t, config) },
			stop:     func(t *testing.T) { closeStore(t, running) },
		}
		return s, func() {
			config.DataDir = t.TempDir()
			fill(t, config.DataDir)
		}
	}
}

// emptiedExternal is set up anew as it was: etcd then has the same cluster ID.
func emptiedExternal(t *testing.T) (server, func()) {
	x := newExternal(t)
	return server{endpoint: x.endpoint, start: x.start, stop: func(*testing.T) { x.stop() }}, func() { x.dir = t.TempDir() }
}

func isEmpty(*testing.T, string) {}

// isOfAnotherCluster fills a store up to a revision that the first never had.
func isOfAnotherCluster(t *testing.T, dir string) {
	other := startEmbedded(t, EmbeddedConfig{DataDir: dir})
	for i := range 100 {
		put(t, other, "networks/other", i)
	}
	closeStore(t, other)
}

// isOfBeforeIdentities has this host's record, and no identity.
func isOfBeforeIdentities(t *testing.T, dir string) {
	old := startEmbedded(t, EmbeddedConfig{DataDir: dir})
	put(t, old, "hosts/h1", 1)
	if _, err := old.client.Delete(t.Context(), old.prefix+identityKey); err != nil {
		t.Fatal(err)
	}
	closeStore(t, old)
}

// A store that came in place of the known one is neither read nor written, by
// nothing that runs on or begins.
func TestAnotherStoreIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make    func(*testing.T) (server, func())
		why     string
		refused bool
	}{
		"embedded, empty":             {replacedEmbedded(isEmpty), "it is empty", true},
		"embedded, another cluster's": {replacedEmbedded(isOfAnotherCluster), "it is another cluster's", true},
		"embedded, from a copy":       {replacedEmbedded(isOfBeforeIdentities), "", false},
		"external, empty":             {emptiedExternal, "it is empty", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, replace := test.make(t)
			server.start(t)
			board, logged := recordedBoard()
			store := open(t, Config{Endpoints: []string{server.endpoint}, Identity: Identity{Mark: "hosts/h1"}, Board: board})
			put(t, store, "hosts/h1", 1)
			for i := range 20 {
				put(t, store, "networks/old", i)
			}
			next := follow(t, store, "networks/")
			next("the network", has("networks/old"))
			hold(t, store, "alive/h1")
			calls := make(chan Snapshot, 10)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- store.Follow(ctx, "networks/", func(s Snapshot) { calls <- s }) }()
			defer func() {
				cancel()
				<-done
			}()
			<-calls

			server.stop(t)
			replace()
			server.start(t)
			if !test.refused {
				putOnce(t, store, "networks/new")
				next("the copy's records", func(s seen) bool { return has("networks/new")(s) && lacks("networks/old")(s) })
				return
			}
			waitLogged(t, logged, test.why)
			before := rawRecords(t, server.endpoint)
			_, getErr := store.Get(t.Context(), "networks/other")
			_, commitErr := store.Commit(t.Context(), Txn{Then: []Op{Put("networks/mine", 1)}})
			for _, err := range []error{getErr, commitErr} {
				if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrOtherStore) || !strings.Contains(err.Error(), "--store-reset") {
					t.Errorf("a request on the other store: %v", err)
				}
			}
			if !faulty(board, health.Scope{Part: health.Store}) {
				t.Error("the board has no fault")
			}
			// Another process' writes there reach no Follow.
			client := rawClient(t, server.endpoint)
			for range 100 {
				if _, err := client.Put(t.Context(), DefaultPrefix+"networks/new", "1"); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case s := <-calls:
				t.Errorf("handed over: %v", s.Items)
			case <-time.After(2 * time.Second):
			}
			after := rawRecords(t, server.endpoint)
			if after != before+100 {
				t.Errorf("the other store went from revision %d to %d by 100 writes", before, after)
			}
		})
	}
}

func rawClient(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, client) })
	return client
}

// rawRecords gives the revision of the etcd at endpoint.
func rawRecords(t *testing.T, endpoint string) int64 {
	t.Helper()
	response, err := rawClient(t, endpoint).Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return response.Header.Revision
}

// A store that was restored from an older backup is read again, though its
// revisions are lower than a watch waits for.
func TestFollowNoticesABackup(t *testing.T) {
	t.Parallel()
	config := EmbeddedConfig{DataDir: t.TempDir(), Listen: loopback.Next().String()}
	first := startEmbedded(t, config)
	store := open(t, Config{Endpoints: []string{config.Listen}})
	next := follow(t, store, "networks/")
	for i := range 20 {
		put(t, store, "networks/old", i)
	}
	next("the last change", func(s seen) bool { return s.items["networks/old"] == "19" })
	id := store.identity.Known
	closeStore(t, first)

	config.DataDir = t.TempDir()
	config.Identity = Identity{Known: id, Mark: "networks/new"}
	backup := startEmbedded(t, EmbeddedConfig{DataDir: config.DataDir})
	put(t, backup, "networks/new", 1)
	commit(t, backup, Txn{Then: []Op{Put(identityKey, id)}})
	closeStore(t, backup)
	startEmbedded(t, config)
	next("the backup's records", func(s seen) bool { return has("networks/new")(s) && lacks("networks/old")(s) })
}

// What a process knows at its start decides which store it takes.
func TestIdentityAtTheStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		identity Identity
		stored   string // what the store has
		marked   bool
		want     string // "new": a random one; "": refused
	}{
		"first start, empty store":          {want: "new"},
		"first start, a cluster's store":    {stored: "A", want: "A"},
		"the known store":                   {identity: Identity{Known: "A"}, stored: "A", want: "A"},
		"another cluster's":                 {identity: Identity{Known: "A"}, stored: "B"},
		"another cluster's, with our name":  {identity: Identity{Known: "A", Mark: "hosts/h1"}, stored: "B", marked: true},
		"an empty one":                      {identity: Identity{Known: "A", Mark: "hosts/h1"}},
		"of before identities":              {identity: Identity{Known: "A", Mark: "hosts/h1"}, marked: true, want: "A"},
		"of before identities, first start": {identity: Identity{Mark: "hosts/h1"}, marked: true, want: "new"},
		"running, an empty one":             {identity: Identity{Mark: "hosts/h1", Running: true}},
		"running, another cluster's":        {identity: Identity{Mark: "hosts/h1", Running: true}, stored: "B"},
		"running, with this host's record":  {identity: Identity{Mark: "hosts/h1", Running: true}, stored: "A", marked: true, want: "A"},
		"running, of before identities":     {identity: Identity{Mark: "hosts/h1", Running: true}, marked: true, want: "new"},
		"running, reset, an empty one":      {identity: Identity{Mark: "hosts/h1", Running: true, Reset: true}, want: "new"},
		"reset, an empty one":               {identity: Identity{Known: "A", Reset: true}, want: "new"},
		"reset, another cluster's":          {identity: Identity{Known: "A", Reset: true}, stored: "B", want: "B"},
		"reset, the known store":            {identity: Identity{Known: "A", Reset: true}, stored: "A", want: "A"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
			client := rawClient(t, server.Endpoint())
			for key, value := range map[string]string{identityKey: test.stored, "hosts/h1": map[bool]string{true: "h1"}[test.marked]} {
				if value == "" {
					continue
				}
				if _, err := client.Put(t.Context(), DefaultPrefix+key, `"`+value+`"`); err != nil {
					t.Fatal(err)
				}
			}
			kept := ""
			test.identity.Keep = func(id string) error { kept = id; return nil }
			store := open(t, Config{Endpoints: []string{server.Endpoint()}, Identity: test.identity})
			_, err := store.Commit(t.Context(), Txn{Then: []Op{Put("a", 1)}})
			if test.want == "" {
				if !errors.Is(err, ErrOtherStore) || kept != "" {
					t.Errorf("%v; kept %q", err, kept)
				}
				return
			}
			got, getErr := client.Get(t.Context(), DefaultPrefix+identityKey)
			if err != nil || getErr != nil || len(got.Kvs) != 1 {
				t.Fatal(err, getErr, got)
			}
			id := strings.Trim(string(got.Kvs[0].Value), `"`)
			if test.want == "new" && len(id) < 20 || test.want != "new" && id != test.want {
				t.Errorf("the store's identity is %q", id)
			}
			if id != test.identity.Known && kept != id {
				t.Errorf("kept %q of %q", kept, id)
			}
		})
	}
}

// Of many that find a store empty, one gives it its identity.
func TestIdentityIsCreatedOnce(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	ids := make(chan string)
	const processes = 8
	for range processes {
		store := open(t, Config{Endpoints: []string{server.Endpoint()}})
		go func() {
			if err := store.Health(t.Context()); err != nil {
				t.Error(err)
			}
			ids <- store.ID()
		}()
	}
	first := <-ids
	for range processes - 1 {
		if id := <-ids; id != first {
			t.Errorf("two identities: %s, %s", first, id)
		}
	}
}
