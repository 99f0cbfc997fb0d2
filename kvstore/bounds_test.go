package kvstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/causeway-net/causeway/internal/health"
)

// Records that are too long to be ours are named, and neither decoded nor kept,
// whether they are listed or come as changes. They hide no others.
func TestOversizedRecords(t *testing.T) {
	t.Parallel()
	store := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir()})
	long := `"` + strings.Repeat("x", 1_400_000) + `"`
	putLong := func(key string) {
		if _, err := store.client.Put(t.Context(), store.prefix+key, long); err != nil {
			t.Error(err)
		}
	}
	const records = 150 // more than a page
	for i := range records {
		if i%3 == 0 {
			putLong(fmt.Sprintf("hosts/%03d", i))
		} else {
			put(t, store, fmt.Sprintf("hosts/%03d", i), "h")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := 0
	err := Watch(ctx, store, "hosts/", func(c Change[string]) {
		changes++
		switch changes {
		case 1:
			if !c.First || len(c.Put) != records/3*2 || len(c.Bad) != records/3 {
				t.Errorf("%d records and %d bad ones", len(c.Put), len(c.Bad))
			}
			putLong("hosts/new")
		case 2:
			want := "record hosts/new is too long to be read: 1400002 bytes"
			if err := c.Bad["new"]; err == nil || err.Error() != want || len(c.Put) > 0 {
				t.Errorf("got %v, want %s", err, want)
			}
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	item, err := store.Get(t.Context(), "hosts/000")
	want := Item{Key: "hosts/000", Revision: item.Revision, Oversize: len(long)}
	if diff := cmp.Diff(want, item); err != nil || diff != "" {
		t.Errorf("Get: %v %s", err, diff)
	}
}

// A user who may only read is told so at once, and the board has it.
func TestUserWhoMayOnlyRead(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0", Volatile: true})
	put(t, server, "networks/a", 1)
	client := rawClient(t, server.Endpoint())
	for _, do := range []func() error{
		func() error { _, err := client.RoleAdd(t.Context(), "root"); return err },
		func() error { _, err := client.UserAdd(t.Context(), "root", "p"); return err },
		func() error { _, err := client.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := client.RoleAdd(t.Context(), "reader"); return err },
		func() error {
			_, err := client.RoleGrantPermission(t.Context(), "reader", DefaultPrefix,
				clientv3.GetPrefixRangeEnd(DefaultPrefix), clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := client.UserAdd(t.Context(), "u", "p"); return err },
		func() error { _, err := client.UserGrantRole(t.Context(), "u", "reader"); return err },
		func() error { _, err := client.AuthEnable(t.Context()); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	board, _ := recordedBoard()
	store := open(t, Config{Endpoints: []string{server.Endpoint()}, Username: "u", Password: "p", Board: board})
	if _, err := store.Get(t.Context(), "networks/a"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err := store.Commit(t.Context(), Txn{Then: []Op{Put("networks/b", 1)}})
	if codeOf(err) != codes.PermissionDenied || time.Since(start) > requestTimeout/2 {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	if !faulty(board, health.Scope{Part: health.Store, Object: "write"}) {
		t.Errorf("faults: %+v", board.Faults())
	}
}
