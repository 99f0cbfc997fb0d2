package backup

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/statefile"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const net1, docker1, host1, host2 = "n1", "d1", "h1", "h2"

// start runs a Store on an etcd of its own, with what follows the records as the
// loop does.
func start(t *testing.T, path string) (*Store, *health.Board) {
	t.Helper()
	etcd, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, etcd, path)
}

func startOn(t *testing.T, etcd *kvstore.Embedded, path string) (*Store, *health.Board) {
	t.Helper()
	logger, _ := test.NewNullLogger()
	board := health.New(logrus.NewEntry(logger))
	store, err := Open(etcd, Config{Host: host1, Mirror: true, Path: path, Board: board})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	tasks := []func() error{func() error { return store.Run(ctx) }}
	for _, prefix := range []string{records.NetworksPrefix, records.HostAttachments(host1), records.NetworkEndpoints(net1)} {
		tasks = append(tasks, func() error { return store.Follow(ctx, prefix, func(kvstore.Snapshot) {}) })
	}
	for _, task := range tasks {
		go func() { ended <- task() }()
	}
	t.Cleanup(func() {
		cancel()
		for range tasks {
			<-ended
		}
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	return store, board
}

// populate creates a network with a container on each of two hosts.
func populate(t *testing.T, store kvstore.Store, dockerIPAM bool) {
	t.Helper()
	driver := "causeway"
	if dockerIPAM {
		driver = "default"
	}
	subnet := netip.MustParsePrefix("192.168.1.0/24")
	network := fabric.Network{
		ID: net1, Name: "foo", Mode: fabric.ModeVXLAN, Options: map[string]string{"a": "b"}, IPAM: fabric.IPAM{Driver: driver},
		Subnets: []fabric.Subnet{{
			Prefix: subnet, Gateway: netip.MustParseAddr("192.168.1.1"), Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("192.168.1.9")},
		}},
	}
	here := records.Records{Store: store, Host: host1}
	if !dockerIPAM {
		if _, _, err := here.RequestPool(t.Context(), records.PoolRequest{Space: records.DefaultSpace, Prefix: subnet}); err != nil {
			t.Fatal(err)
		}
	}
	attaching := records.Attaching{DockerID: docker1, Attachment: records.Attachment{DockerIPAM: dockerIPAM}, Mirror: true}
	if err := here.CreateNetwork(t.Context(), network, attaching, func(fabric.Network) error { return nil }); err != nil {
		t.Fatal(err)
	}
	network, err := here.Network(t.Context(), net1)
	if err != nil {
		t.Fatal(err)
	}
	for i, host := range []string{host1, host2} {
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(2 + i)}), 24)
		endpoint := fabric.Endpoint{
			ID: "e" + host, Network: net1, Host: host, Addrs: []netip.Prefix{address},
			MAC: fabric.DeriveMAC(net1, address.Addr()), Name: "web-" + host, Names: []string{"web"},
		}
		if _, err := (records.Records{Store: store, Host: host}).PutEndpoint(t.Context(), network, endpoint, "", dockerIPAM, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.After(15 * time.Second); !met(); {
		select {
		case <-deadline:
			t.Fatal("never: ", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func waitForCopy(t *testing.T, path string, endpoints int) Copy {
	t.Helper()
	var kept Copy
	eventually(t, "the copy has the endpoints", func() bool {
		var err error
		kept, err = statefile.Read[Copy](path)
		return err == nil && len(kept.Endpoints[net1]) == endpoints
	})
	return kept
}

// dump is all that a store has, without what differs by the moment.
func dump(t *testing.T, store kvstore.Store) map[string]string {
	t.Helper()
	snapshot, err := store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for key, item := range snapshot.Items {
		value := string(item.Value)
		if strings.HasPrefix(key, records.PoolsPrefix) {
			pool, err := kvstore.Decode[records.Pool](item)
			if err != nil {
				t.Fatal(err)
			}
			value = strings.Join(append([]string{pool.Space, pool.Prefix.String(), pool.Network}, pool.Users...), " ")
		}
		if strings.HasPrefix(key, records.UsersPrefix) {
			use, err := kvstore.Decode[records.Use](item)
			if err != nil {
				t.Fatal(err)
			}
			value = fmt.Sprint(use.Uses, use.Global)
		}
		values[key] = value
	}
	return values
}

// A new store gets all that is this host's, and nothing of the others'.
func TestRestoreIntoAnEmptyStore(t *testing.T) {
	for name, dockerIPAM := range map[string]bool{"causeway's IPAM": false, "Docker's IPAM": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "records.json")
			old, _ := start(t, path)
			populate(t, old, dockerIPAM)
			kept := waitForCopy(t, path, 1)
			want := dump(t, old)
			for key := range want {
				if strings.HasSuffix(key, "e"+host2) || strings.HasSuffix(key, "192.168.1.3") {
					delete(want, key)
				}
			}

			fresh, board := start(t, path)
			if diff := cmp.Diff(want, dump(t, fresh)); diff != "" {
				t.Error(diff)
			}
			if len(board.Faults()) > 0 {
				t.Errorf("faults: %+v", board.Faults())
			}
			eventually(t, "the copy is of the new store", func() bool {
				now, err := statefile.Read[Copy](path)
				return err == nil && now.Store == fresh.store.ID() && now.Store != kept.Store && len(now.Endpoints[net1]) == 1
			})
		})
	}
}

// What a store of another cluster has already is left alone, and said.
func TestRestoreIntoAnotherClustersStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.json")
	old, _ := start(t, path)
	populate(t, old, false)
	waitForCopy(t, path, 1)

	etcd, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.NameKey("foo"), "theirs")}}); err != nil {
		t.Fatal(err)
	}
	theirs, board := startOn(t, etcd, path)
	if got := slices.Collect(maps.Keys(dump(t, theirs))); len(got) != 1 {
		t.Errorf("the store has %v", got)
	}
	want := "network foo cannot be put into the new store: its name is taken by network theirs"
	if faults := board.Faults(); len(faults) != 1 || faults[0].Text != want {
		t.Errorf("got  %+v\nwant %s", faults, want)
	}
}

// The copy follows what goes, too, also while causeway did not run.
func TestCopyFollowsTheRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.json")
	if err := statefile.Write(path, Copy{Endpoints: map[string]map[string]fabric.Endpoint{net1: {"gone": {ID: "gone", Host: host1}}}}); err != nil {
		t.Fatal(err)
	}
	store, _ := start(t, path)
	populate(t, store, false)
	eventually(t, "the copy has the container, and not the one before", func() bool {
		kept, err := statefile.Read[Copy](path)
		endpoints := slices.Collect(maps.Keys(kept.Endpoints[net1]))
		return err == nil && slices.Equal(endpoints, []string{"e" + host1})
	})
	r := records.Records{Store: store, Host: host1}
	if _, err := r.DeleteEndpoint(t.Context(), fabric.Network{ID: net1}, "e"+host1, true); err != nil {
		t.Fatal(err)
	}
	if kept := waitForCopy(t, path, 0); len(kept.Networks) != 1 {
		t.Errorf("the copy has %+v", kept.Networks)
	}
	if err := r.Detach(t.Context(), docker1, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copy is empty", func() bool {
		kept, err := statefile.Read[Copy](path)
		return err == nil && len(kept.Networks) == 0 && len(kept.Attachments) == 0
	})
}
