package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

// TestMain looks for leaks, but for the connections between members: etcd leaves
// those of a member that was stopped to run into their timeout of five seconds.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// host is a host of a cluster, on loopback, whose causeway can be stopped and
// started again.
type host struct {
	t      *testing.T
	config Config
	*Cluster
	etcd  *kvstore.Etcd
	board *health.Board
	ahead atomic.Int64 // how far its clock is ahead, in nanoseconds
	stop  func()
}

func newHost(t *testing.T, name string) *host {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	entry := logrus.NewEntry(log).WithField("host", name)
	board := health.New(entry)
	h := &host{t: t, board: board, stop: func() {}, config: Config{
		DataDir: filepath.Join(t.TempDir(), name), Host: name, Version: "1.0", Address: netip.MustParseAddr("127.0.0.1"), Port: freePorts(t),
		Board: board, Log: entry, Volatile: true,
	}}
	h.config.Now = func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }
	t.Cleanup(func() { h.stop() })
	return h
}

// freePorts gives the first of three ports that nobody listens at. They are none
// that the kernel gives to connections: a member that is started again needs its own.
func freePorts(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		port := 10_000 + 3*rand.IntN(7_000)
		free := true
		for i := range 3 {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprint("127.0.0.1:", port+i))
			if err == nil {
				listener.Close()
			}
			free = free && err == nil
		}
		if free {
			return uint16(port)
		}
	}
	t.Fatal("no three ports in a row are free")
	return 0
}

// open brings the host into its cluster and says why it does not come.
func (h *host) open(token string) error {
	h.config.Token = token
	var err error
	h.Cluster, err = Open(h.t.Context(), h.config)
	return err
}

// start runs the host until stop.
func (h *host) start(token string) {
	h.t.Helper()
	must(h.t, h.open(token))
	var err error
	h.etcd, err = kvstore.Open(kvstore.Config{
		Endpoints: h.State().Members, TLS: h.Dir.Client(), Board: h.board,
		Identity: kvstore.Identity{Known: h.config.Store, Keep: func(id string) error { h.config.Store = id; return nil }},
	})
	must(h.t, err)
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, h.etcd) }()
	h.stop = func() {
		h.stop = func() {}
		cancel()
		if err := errors.Join(<-ended, h.etcd.Close(), h.Close()); err != nil {
			h.t.Error(err)
		}
	}
}

// token makes one, once the host takes those that join.
func (h *host) token(life time.Duration) string {
	h.t.Helper()
	eventually(h.t, "hosts can join", func() error {
		conn, err := new(net.Dialer).DialContext(h.t.Context(), "tcp", h.joinAddr().String())
		if err == nil {
			conn.Close()
		}
		return err
	})
	token, err := h.NewToken(h.t.Context(), h.etcd, life)
	must(h.t, err)
	return token.String()
}

func (h *host) put(key string, value any) {
	h.t.Helper()
	_, err := h.etcd.Commit(h.t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, value)}})
	must(h.t, err)
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	await.Within(t, 20*time.Second, what, check)
}

func TestFoundJoinAndComeBack(t *testing.T) {
	h1, h2 := newHost(t, "h1"), newHost(t, "h2")
	h1.start("")
	h1.put("names/foo", "bar")
	token := h1.token(time.Hour)
	h2.start(token)
	if item, err := h2.etcd.Get(t.Context(), "names/foo"); err != nil || string(item.Value) != `"bar"` {
		t.Errorf("h2 reads %q, %v", item.Value, err)
	}
	if h2.State().Member || h2.Member() != nil || h1.Member() == nil {
		t.Errorf("h1 is %+v, h2 is %+v", h1.State(), h2.State())
	}
	for _, h := range []*host{h1, h2} {
		eventually(t, h.config.Host+" has noted its certificate", func() error {
			_, err := h.etcd.Get(t.Context(), records.CertificatesKey(h.config.Host))
			return err
		})
	}
	h1.stop()
	h2.stop()
	h1.start(token) // who begins by a token that is its own cluster's takes no note of it
	h2.start("")    // the token is not needed again
	must(t, h2.etcd.Health(t.Context()))
	h2.stop()
	must(t, records.Records{Store: h1.etcd}.DeleteToken(t.Context(), strings.Fields(h2.State().Token)[0]))
	h2.start(token) // nor looked at
	must(t, h2.etcd.Health(t.Context()))

	// h1 moves to other ports: the others are told, as with another address.
	h2.stop()
	h1.stop()
	h1.config.Port = freePorts(t)
	h1.start("")
	eventually(t, "the store knows h1's new address", func() error {
		members, err := h1.etcd.Members(t.Context())
		if err == nil && members[0].Peer != h1.Peer() {
			err = fmt.Errorf("it is at %s", members[0].Peer)
		}
		return err
	})
}

// A host that is stopped at any step of its way into a cluster goes on at the next
// start, or is told what to remove.
func TestKilledOnTheWay(t *testing.T) {
	h1 := newHost(t, "h1")
	h1.start("")
	token := h1.token(time.Hour)
	founding := []string{"trust/ca.pem", "trust/ca.key", "cluster.json", "trust/host.pem", "trust/revoked.crl"}
	joining := []string{"cluster.json", "trust/ca.pem", "trust/revoked.crl", "trust/host.pem"}
	whole := newHost(t, "whole")
	whole.start("")
	whole.stop()
	joined := newHost(t, "joined")
	joined.start(token)
	joined.stop()
	// upTo is the folder of a host that was killed after n steps.
	upTo := func(name string, like *host, steps []string, n int) *host {
		h := newHost(t, name)
		h.config.Port = like.config.Port
		for _, file := range steps[:n] {
			text, err := os.ReadFile(filepath.Join(like.config.DataDir, file))
			must(t, err)
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(h.config.DataDir, file)), 0o700))
			must(t, os.WriteFile(filepath.Join(h.config.DataDir, file), text, 0o600))
		}
		return h
	}
	for n := range len(founding) + 1 {
		h := upTo(fmt.Sprint("founding", n), whole, founding, n)
		h.start("")
		must(t, h.etcd.Health(t.Context()))
		h.stop()
		if err := upTo("other", whole, founding, n).open(token); n >= 2 && (err == nil ||
			!strings.Contains(err.Error(), "has the beginnings of a cluster of this host's own: remove it") && !strings.Contains(err.Error(), "is of another cluster")) {
			t.Errorf("another cluster's token after %d steps: %v", n, err)
		}
	}
	for n := range len(joining) + 1 {
		h := upTo(fmt.Sprint("joining", n), joined, joining, n)
		h.start(token)
		must(t, h.etcd.Health(t.Context()))
		h.stop()
		if n == 0 || n == len(joining) {
			continue
		}
		if err := upTo("alone", joined, joining, n).open(""); err == nil || !strings.Contains(err.Error(), "this host was joining a cluster when it was stopped: give --join again, or remove ") {
			t.Errorf("without a token after %d steps: %v", n, err)
		}
	}
}

func TestOpenIsRefused(t *testing.T) {
	h1, other := newHost(t, "h1"), newHost(t, "other")
	h1.start("")
	other.start("")
	h1.put(records.HostKey("taken"), fabric.Host{Name: "taken", VTEP: netip.MustParseAddr("10.9.9.9")})
	h1.put(records.AliveKey("taken"), records.Alive{})
	token, others := h1.token(time.Hour), other.token(time.Hour)
	removed := h1.token(time.Hour)
	parsed, err := trust.ParseToken(removed)
	must(t, err)
	must(t, records.Records{Store: h1.etcd}.DeleteToken(t.Context(), parsed.ID))
	nobody := parsed
	nobody.Addrs = []netip.AddrPort{netip.AddrPortFrom(h1.config.Address, freePorts(t))}
	member := newHost(t, "member")
	member.start(token)
	member.stop()
	for name, test := range map[string]struct {
		h      *host
		change func(*Config)
		token  string
		want   string
	}{
		"mangled":          {nil, nil, token[:len(token)-3], "--join: the token is mangled"},
		"expired":          {nil, nil, h1.token(time.Millisecond), "--join: join the cluster: the token expired at"},
		"removed":          {nil, nil, removed, "the token is not known in this cluster"},
		"nobody":           {nil, nil, nobody.String(), "connection refused"},
		"clock":            {nil, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) } }, token, "the clock of this host is off by -24h0m0s: set it"},
		"name":             {nil, func(c *Config) { c.Host = "taken" }, token, "host name taken is in use by the host with VTEP 10.9.9.9"},
		"in other":         {member, nil, others, "--join: the token is of another cluster than the one that"},
		"elsewhere":        {nil, func(c *Config) { c.Store = "x" }, "", "this host belongs to a store that is elsewhere: give --store"},
		"moved":            {nil, func(c *Config) { c.Store = "x" }, token, "this host belongs to another store than that cluster's: remove "},
		"full disk":        {nil, func(c *Config) { c.DataDir = fullDisk(t) }, token, "no space left on device"},
		"full disk, alone": {nil, func(c *Config) { c.DataDir = fullDisk(t) }, "", "no space left on device"},
		"own store":        {nil, func(c *Config) { must(t, os.MkdirAll(filepath.Join(c.DataDir, "etcd"), 0o700)) }, token, "has a store of this host's own"},
	} {
		t.Run(name, func(t *testing.T) {
			h := test.h
			if h == nil {
				h = newHost(t, "h2")
			}
			if test.change != nil {
				test.change(&h.config)
			}
			err := h.open(test.token)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if test.h == nil && IsClosed(h.config.DataDir) {
				t.Error("it has a certificate")
			}
		})
	}
}

// fullDisk is a folder on a file system without a free page.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Skip("mounting a file system needs root: ", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(t, os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4096), 0o600))
	return dir
}

// A store of before clusters were closed keeps its records, and its other hosts
// join with a token.
func TestOlderStoreIsClosed(t *testing.T) {
	h1 := newHost(t, "h1")
	old, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{
		DataDir: h1.config.DataDir, Volatile: true,
		Identity: kvstore.Identity{Keep: func(id string) error { h1.config.Store = id; return nil }},
	})
	must(t, err)
	_, err = old.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put("names/foo", "bar")}})
	must(t, errors.Join(err, old.Close()))
	h1.start("")
	if item, err := h1.etcd.Get(t.Context(), "names/foo"); err != nil || string(item.Value) != `"bar"` {
		t.Errorf("after it was closed: %q, %v", item.Value, err)
	}
	h2 := newHost(t, "h2")
	h2.config.Store = h1.config.Store
	h2.start(h1.token(time.Hour))
	must(t, h2.etcd.Health(t.Context()))
	eventually(t, "the member is where others reach it", func() error {
		members, err := h1.etcd.Members(t.Context())
		if err == nil && (members[0].Peer != h1.Peer() || members[0].Name != "h1") {
			err = fmt.Errorf("it is %+v", members[0])
		}
		return err
	})
}

// A host that was removed has a certificate that is worth nothing at once, and may
// come back with a new token.
func TestRemovedHost(t *testing.T) {
	h1, h2 := newHost(t, "h1"), newHost(t, "h2")
	h1.start("")
	h2.start(h1.token(time.Hour))
	eventually(t, "h2's certificate is noted", func() error {
		_, err := h1.etcd.Get(t.Context(), records.CertificatesKey("h2"))
		return err
	})
	h1.put(records.HostKey("h2"), fabric.Host{Name: "h2", VTEP: h2.config.Address})
	if _, err := records.RemoveHost(t.Context(), h1.etcd, "h2", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "h2 is refused", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if h2.etcd.Health(ctx) == nil {
			return errors.New("it is let in")
		}
		return nil
	})
	h2.stop()
	if _, err := h2.client().Renew(t.Context(), []netip.AddrPort{h1.joinAddr()}); err == nil {
		t.Error("its certificate was renewed")
	}
	h2.start(h1.token(time.Hour))
	must(t, h2.etcd.Health(t.Context()))
}

// A member whose data is gone would be an empty store to all others' clients.
func TestMemberWithoutItsData(t *testing.T) {
	h1, h2 := newHost(t, "h1"), newHost(t, "h2")
	h1.start("")
	h2.start(h1.token(time.Hour))
	h2.stop()
	must(t, h2.open(""))
	must(t, h2.setState(func(s *State) { s.Member, s.ID = true, 7 }))
	must(t, h2.Close())
	must(t, h2.open(""))
	defer func() { must(t, h2.Close()) }()
	if id, _ := h2.Running(); id != 0 || h2.hasStore() {
		t.Errorf("member %x of an empty store has started", id)
	}
}

// Certificates are renewed long before they expire; where that fails, it is told
// before they have.
func TestRenewal(t *testing.T) {
	h1, h2 := newHost(t, "h1"), newHost(t, "h2")
	h1.start("")
	h2.start(h1.token(time.Hour))
	moved := netip.MustParseAddr("127.0.0.2")
	for _, h := range []*host{h2, h1} { // a host that is no member asks at the address that it knows
		eventually(t, "the certificate is noted", func() error {
			_, err := h.etcd.Get(t.Context(), records.CertificatesKey(h.config.Host))
			return err
		})
		before, err := h.Dir.Certificate()
		must(t, err)
		if wait := h.keepCertificate(t.Context(), h.etcd); wait != renewEvery {
			t.Errorf("the next look is in %v", wait)
		}
		h.stop()
		h.config.Address = moved
		h.start("")
		eventually(t, h.config.Host+" has a certificate for its new address", func() error {
			now, err := h.Dir.Certificate()
			switch {
			case err != nil:
				return err
			case now.SerialNumber.Cmp(before.SerialNumber) == 0:
				return errors.New("it is the old one")
			}
			return now.VerifyHostname(moved.String())
		})
	}
	h1.stop()
	h2.ahead.Store(int64(trust.HostLife - time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if wait := h2.keepCertificate(ctx, h2.etcd); wait != renewRetry {
		t.Errorf("the next try is in %v", wait)
	}
	h1.ahead.Store(int64(trust.HostLife + time.Hour))
	if wait := h1.keepCertificate(t.Context(), h1.etcd); wait != renewRetry || h1.untimely() {
		t.Errorf("without a store, the host with the authority tries again in %v", wait)
	}
	if faults := h1.board.Faults(); len(faults) != 0 {
		t.Errorf("of a new certificate that is not noted it says %v", faults)
	}
	h2.ahead.Store(int64(trust.HostLife + time.Hour))
	h2.keepCertificate(t.Context(), h2.etcd)
	if faults := h2.board.Faults(); len(faults) != 1 || !strings.Contains(faults[0].Text, "--join") {
		t.Errorf("of an expired certificate it says %v", faults)
	}
}
