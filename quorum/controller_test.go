package quorum

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/loopback"
	"github.com/causeway-net/causeway/internal/trusttest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// simHost is a host with a real member of the store in this process.
type simHost struct {
	t      *testing.T
	name   string
	config kvstore.MemberConfig
	store  *kvstore.Etcd
	stop   func()

	mu     sync.Mutex // guards member and urls
	member *kvstore.Member
	urls   []string
}

type cluster struct {
	t         *testing.T
	authority *trust.Authority
	hosts     map[string]*simHost
}

// add makes a host that knows the store at urls; the first founds it.
func (c *cluster) add(name string, urls []string) *simHost {
	c.t.Helper()
	dir := trusttest.Host(c.t, c.authority, name)
	h := &simHost{t: c.t, name: name, urls: urls, config: kvstore.MemberConfig{
		Name: name, DataDir: c.t.TempDir(), Client: loopback.Next(), Peer: loopback.Next(),
		Host: dir.HostFile(), CA: dir.CAFile(), CRL: dir.CRLFile(), Volatile: true,
	}}
	if len(urls) == 0 {
		must(c.t, h.Start(c.t.Context(), nil))
		h.urls = []string{kvstore.ClientURL(h.config.Client)}
	}
	var err error
	h.store, err = kvstore.Open(kvstore.Config{Endpoints: h.urls, TLS: dir.Client()})
	must(c.t, err)
	c.hosts[name] = h
	h.run()
	c.t.Cleanup(func() { h.die(); must(c.t, h.store.Close()) })
	return h
}

// run announces the host and runs its controller until die.
func (h *simHost) run() {
	log := logrus.New()
	log.SetOutput(h.t.Output())
	entry := logrus.NewEntry(log).WithField("on", h.name)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	record := fabric.Host{Name: h.name, VTEP: netip.MustParseAddr("10.0.0.1"), StoreWish: string(Auto), StorePeer: h.Peer()}
	await.Within(h.t, time.Minute, h.name+" is announced", func() error {
		_, err := h.store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.HostKey(h.name), record)}})
		return err
	})
	running.Go(func() { _ = h.store.Hold(ctx, records.AliveKey(h.name), records.Alive{}, 2*time.Second) })
	running.Go(func() {
		_ = New(Config{Host: h.name, Store: h.store, Member: h, Board: health.New(entry), Log: entry}).Run(ctx)
	})
	h.stop = func() {
		cancel()
		running.Wait()
	}
}

// die is the power loss of the host, as far as others see it.
func (h *simHost) die() {
	h.stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.member != nil {
		must(h.t, h.member.Close())
		h.member = nil
	}
}

func (h *simHost) Running() (uint64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.member == nil {
		return 0, false
	}
	return h.member.ID(), h.member.Leads()
}

func (h *simHost) Peer() string { return kvstore.PeerURL(h.config.Peer) }

func (h *simHost) Start(ctx context.Context, others map[string]string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	config := h.config
	config.Others = others
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	member, err := kvstore.StartMember(ctx, config)
	if err == nil {
		h.member = member
	}
	return err
}

func (h *simHost) Leave(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.member.Close()
	h.member = nil
	return errors.Join(err, os.RemoveAll(h.config.DataDir+"/etcd"))
}

func (h *simHost) Keep(urls []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.urls = urls
	return nil
}

func (h *simHost) Full() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.member.Full()
}

func (h *simHost) Relieve(ctx context.Context, id uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.member.Relieve(ctx, id)
}

func (h *simHost) known() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.urls)
}

// has waits until the store's members are these, "h2 learns" for a learner.
func (c *cluster) has(asked *simHost, want ...string) {
	c.t.Helper()
	await.Within(c.t, time.Minute, strings.Join(want, ", "), func() error {
		members, err := asked.store.Members(c.t.Context())
		if err != nil {
			return err
		}
		var got []string
		for _, m := range members {
			if m.Learner {
				m.Name += " learns"
			}
			got = append(got, m.Name)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("members are %v", got)
		}
		return nil
	})
}

// Three hosts hold the store; the one that all joined through dies and is
// released, and a fourth takes its place.
func TestStoreFollowsTheHosts(t *testing.T) {
	c := &cluster{t: t, authority: trusttest.NewAuthority(t), hosts: map[string]*simHost{}}
	h1 := c.add("h1", nil)
	c.has(h1, "h1")
	h2 := c.add("h2", h1.known())
	c.has(h1, "h1", "h2 learns")
	h3 := c.add("h3", h1.known())
	c.has(h1, "h1", "h2", "h3")
	h4 := c.add("h4", h1.known())
	await.Within(t, time.Minute, "h4 knows all members", func() error {
		if urls := h4.known(); len(urls) != 3 {
			return fmt.Errorf("it knows %v", urls)
		}
		return nil
	})

	h1.die()
	started := time.Now()
	await.Within(t, time.Minute, "a write without h1", func() error {
		_, err := h4.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put("records/one", 1)}})
		return err
	})
	t.Logf("writes go on %v after the death of a member", time.Since(started).Round(time.Millisecond))
	await.Within(t, time.Minute, "h1 is released", func() error {
		_, err := records.ReleaseHost(t.Context(), h4.store, "h1")
		return err
	})
	c.has(h4, "h2", "h3", "h4")

	// The disk of a member is full, and then its host dies. Its data is lost: it joins again.
	id, _ := h3.Running()
	h3.die()
	_, err := h2.member.Embed.Server.Alarm(t.Context(), &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: id, Alarm: pb.AlarmType_NOSPACE,
	})
	must(t, err)
	await.Within(t, time.Minute, "a write without h3", func() error {
		_, err := h4.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put("records/two", 2)}})
		return err
	})
	must(t, os.RemoveAll(h3.config.DataDir+"/etcd"))
	h3.run()
	c.has(h2, "h2", "h3", "h4")
}
