package agent

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Who follows is told all, then each change, and then that the agent ends: it does not wait
// for those who follow.
func TestFollow(t *testing.T) {
	store := storetest.New(t)
	commit := func(ops ...kvstore.Op) {
		t.Helper()
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
	commit(kvstore.Put(records.HostKey("h1"), fabric.Host{Name: "h1"}), kvstore.Put(records.TokenKey("t"), "secret"))
	logger := logrus.New()
	logger.SetOutput(t.Output())
	server := plugin.NewServer(logrus.NewEntry(logger))
	handleFollow(server, Config{Store: store})
	path := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := plugin.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()

	changes, ended := make(chan Change), make(chan error, 1)
	go func() { ended <- NewClient(path).Follow(t.Context(), func(c Change) { changes <- c }) }()
	first := map[string]Change{}
	for range followedPrefixes() {
		c := <-changes
		first[c.Prefix] = c
	}
	if hosts := first[records.HostsPrefix]; len(first) != len(followedPrefixes()) || !hosts.First || len(hosts.Put) != 1 {
		t.Errorf("at first it tells %+v", first)
	}
	commit(kvstore.Put(records.HostKey("h2"), fabric.Host{Name: "h2"}))
	if c := <-changes; c.First || len(c.Put) != 1 || c.Put["h2"] == nil {
		t.Errorf("of h2 it tells %+v", c)
	}
	commit(kvstore.Delete(records.HostKey("h1")))
	if c := <-changes; len(c.Put) != 0 || !slices.Equal(c.Gone, []string{"h1"}) {
		t.Errorf("of h1 it tells %+v", c)
	}
	stop()
	if err := <-ended; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the agent ended, and who follows is told %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestApply(t *testing.T) {
	one, two := json.RawMessage("1"), json.RawMessage("2")
	for name, test := range map[string]struct {
		change  Change
		touched []string
		table   map[string]json.RawMessage
	}{
		"put and gone":   {Change{Put: map[string]json.RawMessage{"a": two, "c": one}, Gone: []string{"b"}}, []string{"a", "b", "c"}, map[string]json.RawMessage{"a": two, "c": one}},
		"all there is":   {Change{First: true, Put: map[string]json.RawMessage{"c": one}}, []string{"a", "b", "c"}, map[string]json.RawMessage{"c": one}},
		"nothing at all": {Change{}, nil, map[string]json.RawMessage{"a": one, "b": one}},
	} {
		table := map[string]json.RawMessage{"a": one, "b": one}
		touched := test.change.Apply(table)
		if !slices.Equal(touched, test.touched) || len(table) != len(test.table) {
			t.Errorf("%s: it touches %q and leaves %s", name, touched, table)
		}
		for key, want := range test.table {
			if string(table[key]) != string(want) {
				t.Errorf("%s: %s is %s", name, key, table[key])
			}
		}
	}
}
