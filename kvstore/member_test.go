package kvstore

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/loopback"
	"github.com/causeway-net/causeway/internal/trusttest"
	"github.com/causeway-net/causeway/trust"
)

// closedStore is a store of some members in this process, each with a folder and
// ports of its own.
type closedStore struct {
	t         *testing.T
	authority *trust.Authority
	members   map[string]*closedMember
}

type closedMember struct {
	config MemberConfig
	dir    trust.Dir
	*Member
}

func newClosedStore(t *testing.T) *closedStore {
	c := &closedStore{t: t, authority: trusttest.NewAuthority(t), members: map[string]*closedMember{}}
	c.start("h1", nil)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// trusted gives a folder with a host's certificate.
func (c *closedStore) trusted(name string) trust.Dir {
	c.t.Helper()
	return trusttest.Host(c.t, c.authority, name)
}

// start runs a new member.
func (c *closedStore) start(name string, others map[string]string) *closedMember {
	c.t.Helper()
	dir := c.trusted(name)
	client, peer := loopback.Next(), loopback.Next()
	m := &closedMember{dir: dir, config: MemberConfig{
		Name: name, DataDir: c.t.TempDir(), Client: client, Peer: peer, Host: dir.HostFile(), CA: dir.CAFile(), CRL: dir.CRLFile(),
		Others: others, Volatile: true,
	}}
	c.members[name] = m
	return m.run(c.t)
}

func (m *closedMember) run(t *testing.T) *closedMember {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var err error
	m.Member, err = StartMember(ctx, m.config)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// open gives the Store as a host has it.
func (c *closedStore) open(dir trust.Dir) *Etcd {
	c.t.Helper()
	var urls []string
	for _, m := range c.members {
		urls = append(urls, ClientURL(m.config.Client))
	}
	store, err := Open(Config{Endpoints: urls, TLS: dir.Client()})
	must(c.t, err)
	c.t.Cleanup(func() { must(c.t, store.Close()) })
	return store
}

// prepare gives a member that does not run yet.
func (c *closedStore) prepare(name string) *closedMember {
	c.t.Helper()
	m := &closedMember{dir: c.trusted(name), config: MemberConfig{Name: name, DataDir: c.t.TempDir(), Client: loopback.Next(), Peer: loopback.Next(), Volatile: true}}
	m.config.Host, m.config.CA, m.config.CRL = m.dir.HostFile(), m.dir.CAFile(), m.dir.CRLFile()
	return m
}

// join adds a member and gives it its vote when it has caught up.
func (c *closedStore) join(store *Etcd, name string) *closedMember {
	c.t.Helper()
	m := c.prepare(name)
	for range 2 { // asked again it changes nothing
		// While a vote was given only just now, etcd lets nobody join.
		await.Within(c.t, 20*time.Second, name+" may join", func() (err error) {
			m.config.Others, err = store.AddLearner(c.t.Context(), PeerURL(m.config.Peer))
			return err
		})
	}
	c.members[name] = m
	m.run(c.t)
	if !m.Learner() {
		c.t.Errorf("%s has a vote at once", name)
	}
	await.Within(c.t, 20*time.Second, name+" has its vote", func() error { return store.Promote(c.t.Context(), m.ID()) })
	return m
}

// A store of three members loses any one of them, and a new one takes its place.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	c := newClosedStore(t)
	store := c.open(c.trusted("h9"))
	put := func(key string) error {
		_, err := store.Commit(t.Context(), Txn{Then: []Op{Put("records/"+key, key)}})
		return err
	}
	must(t, put("one"))
	c.join(store, "h2")
	h3 := c.join(store, "h3")
	members, err := store.Members(t.Context())
	must(t, err)
	names := make([]string, 0, len(members))
	for _, m := range members {
		names = append(names, fmt.Sprint(m.Name, m.Learner))
	}
	if !slices.Equal(names, []string{"h1false", "h2false", "h3false"}) {
		t.Errorf("members are %v", names)
	}
	if leader, err := store.Leader(t.Context()); err != nil || leader == 0 {
		t.Errorf("leader %d, %v", leader, err)
	}
	for _, m := range c.members {
		if m.Leads() && m != h3 {
			must(t, m.Yield(t.Context(), h3.ID()))
		}
	}
	await.Within(t, 20*time.Second, "h3 leads", func() error {
		leader, err := store.Leader(t.Context())
		if err == nil && leader != h3.ID() {
			err = fmt.Errorf("%x leads", leader)
		}
		return err
	})
	store.SetEndpoints([]string{ClientURL(c.members["h2"].config.Client), ClientURL(h3.config.Client)})
	must(t, c.members["h1"].Close())
	await.Within(t, 20*time.Second, "a write without h1", func() error { return put("two") })

	must(t, c.members["h1"].run(t).Close()) // it comes back
	await.Within(t, 20*time.Second, "h1 is removed", func() error { return store.RemoveMember(t.Context(), c.members["h1"].ID()) })
	must(t, store.RemoveMember(t.Context(), 4711))
	delete(c.members, "h1")
	c.join(store, "h4")
	await.Within(t, 20*time.Second, "a write with h4", func() error { return put("three") })
	list, err := store.List(t.Context(), "records/")
	if err != nil || len(list.Items) != 3 {
		t.Errorf("%d records, %v", len(list.Items), err)
	}
}

// Two that were let in before either has started start nevertheless.
func TestTwoMembersJoinAtOnce(t *testing.T) {
	t.Parallel()
	c := newClosedStore(t)
	store := c.open(c.trusted("h9"))
	must(t, store.Health(t.Context())) // it is connected
	h2, h3 := c.prepare("h2"), c.prepare("h3")
	for _, m := range []*closedMember{h2, h3} {
		_, err := store.client.MemberAddAsLearner(t.Context(), []string{PeerURL(m.config.Peer)})
		must(t, err)
	}
	for _, m := range []*closedMember{h2, h3} {
		var err error
		m.config.Others, err = store.AddLearner(t.Context(), PeerURL(m.config.Peer))
		must(t, err)
		m.run(t)
	}
}

// Who has no certificate of the cluster, or one that is revoked, gets nothing.
func TestMemberIsClosed(t *testing.T) {
	t.Parallel()
	c := newClosedStore(t)
	other := newClosedStore(t)
	h2 := c.trusted("h2")
	if err := c.open(h2).Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	certificate, err := h2.Certificate()
	must(t, err)
	list, err := c.authority.RevocationList(2, []*big.Int{certificate.SerialNumber}, time.Now())
	must(t, err)
	must(t, c.members["h1"].dir.SaveRevoked(list))
	for name, dir := range map[string]trust.Dir{"revoked": h2, "another cluster's": other.trusted("h2")} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if err := c.open(dir).Health(ctx); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	must(t, c.open(c.trusted("h3")).Health(t.Context()))
}
