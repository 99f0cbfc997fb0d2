// Package cluster is this host's place in a closed cluster: one whose store serves only
// hosts with a certificate of the cluster's authority.
//
// A host comes there in one of three ways ([Open]): it continues with what its data-dir
// has, it joins with a token (join.go), or it founds a cluster of its own (found.go).
// All three leave the same files: the authorities and this host's certificate (trust/),
// and where the store is (cluster.json). The certificate is written last; a start that
// was killed before that is repeated by the next.
//
// A host that holds a part of the store has the authority's key, and lets others
// in (admit.go). Every host keeps its certificate valid, the list of revoked ones
// and the list of the store's members as they are now (keep.go).
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/statefile"
	"github.com/causeway-net/causeway/join"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/trust"
)

// Config is what a Cluster is made of.
type Config struct {
	// DataDir is the folder that all is kept in.
	DataDir string
	// Host is this host's key in the records, and Version that of its causeway.
	Host, Version string
	// Address is where other hosts reach this one: its VTEP. Port takes those that
	// join, Port+1 the store's clients, and Port+2 its members.
	Address netip.Addr
	Port    uint16
	// Token is what to join with; empty: nothing is joined.
	Token string
	// Store is the ID of the store that this host belongs to; empty: none yet.
	Store string
	Board *health.Board
	Log   *logrus.Entry
	// Now is the clock; nil means this host's. Volatile is for tests.
	Now      func() time.Time
	Volatile bool
}

// State is what cluster.json has.
type State struct {
	// Members are the hosts that hold the store, as URLs for its clients.
	Members []string `json:"members"`
	// Member says that this host is one of them, and ID is its member's, once that
	// has run.
	Member bool   `json:"member,omitempty"`
	ID     uint64 `json:"id,omitempty"`
	// Token is the ID of the token that this host joined with last.
	Token string `json:"token,omitempty"`
}

// Cluster is this host's place. It is safe for concurrent use.
type Cluster struct {
	Config
	// Dir has the authorities that this host trusts, and its certificate.
	Dir trust.Dir

	mu      sync.Mutex // guards all below
	state   State
	running *running
	changed chan struct{} // closed when running becomes another
}

// Open brings this host into its cluster. A member of the store is started; it may
// still wait for the others when Open returns.
func Open(ctx context.Context, config Config) (*Cluster, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &Cluster{Config: config, Dir: trust.NewDir(filepath.Join(config.DataDir, "trust")), changed: make(chan struct{})}
	var err error
	if c.state, err = statefile.Read[State](c.stateFile()); err != nil {
		return nil, fmt.Errorf("this host's cluster: %w", err)
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.Dir.CRLFile()); trust.IsNotThere(err) { // etcd takes no connection without it
		if err := c.Dir.Revoke(nil, c.Now()); err != nil {
			return nil, err
		}
	}
	if c.State().Member && c.othersHold() && !c.hasRun() {
		// Started it would be another store, an empty one, which other hosts' clients may ask.
		c.Log.Warn("this host's data of the store is lost")
		if err := c.setState(func(s *State) { s.Member, s.ID = false, 0 }); err != nil {
			return nil, err
		}
	}
	if !c.State().Member {
		return c, nil
	}
	if err := c.moved(); err != nil {
		return nil, err
	}
	started := c.launch(nil)
	select {
	case <-started.done:
		if started.err != nil && !c.othersHold() {
			return nil, errors.Join(started.err, c.Close())
		}
	case <-time.After(startTimeout): // for the others, which it waits for
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), c.Close())
	}
	return c, nil
}

// startTimeout is how long Open waits for this host's member of the store.
const startTimeout = 5 * time.Second

// enter continues with a certificate that is there, joins, or founds.
func (c *Cluster) enter(ctx context.Context) error {
	var token trust.Token
	if c.Token != "" {
		var err error
		if token, err = trust.ParseToken(c.Token); err != nil {
			return fmt.Errorf("--join: %w", err)
		}
	}
	switch {
	case c.Dir.HasCertificate() && c.Token == "":
		return nil
	case c.Dir.HasCertificate():
		return c.joinAgain(ctx, token)
	case c.Token != "":
		return c.join(ctx, token)
	}
	return c.found()
}

func (c *Cluster) stateFile() string { return filepath.Join(c.DataDir, "cluster.json") }

// IsClosed says whether the host with this data-dir is in a closed cluster.
func IsClosed(dataDir string) bool {
	return trust.NewDir(filepath.Join(dataDir, "trust")).HasCertificate()
}

// Members gives the URLs of the store's members that the host with this data-dir
// knows, but for those at its own address.
func Members(dataDir string) ([]string, error) {
	state, err := statefile.Read[State](filepath.Join(dataDir, "cluster.json"))
	if state.Member {
		return nil, err // its own one is enough to go on
	}
	return state.Members, err
}

// State is what this host knows of the store.
func (c *Cluster) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// setState keeps what change makes of the state.
func (c *Cluster) setState(change func(*State)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.state
	change(&state)
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return err
	}
	if err := statefile.Write(c.stateFile(), state); err != nil {
		return fmt.Errorf("keep where the store is: %w", err)
	}
	c.state = state
	return nil
}

// Keep notes where the store is asked, for the next start.
func (c *Cluster) Keep(urls []string) error {
	if len(urls) == 0 || slices.Equal(urls, c.State().Members) {
		return nil
	}
	return c.setState(func(s *State) { s.Members = urls })
}

// othersHold says whether the store is on other hosts too, so that this one can do
// without its own member.
func (c *Cluster) othersHold() bool {
	return slices.ContainsFunc(c.State().Members, func(url string) bool { return url != c.clientURL() })
}

// client gives what joins and renews under this host's name.
func (c *Cluster) client() *join.Client {
	return &join.Client{Dir: c.Dir, Host: c.Host, Addrs: []netip.Addr{c.Address}, Version: c.Version, Now: c.Now}
}

// The addresses that this host is reached at.
func (c *Cluster) joinAddr() netip.AddrPort { return netip.AddrPortFrom(c.Address, c.Port) }
func (c *Cluster) clientURL() string {
	return kvstore.ClientURL(netip.AddrPortFrom(c.Address, c.Port+1))
}
func (c *Cluster) peerAddr() netip.AddrPort { return netip.AddrPortFrom(c.Address, c.Port+2) }

// Peer is the URL that the store's other members reach this host at.
func (c *Cluster) Peer() string { return kvstore.PeerURL(c.peerAddr()) }

// JoinAddrs are where the hosts with these URLs of the store take those that join.
func JoinAddrs(members []string) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, member := range members {
		u, err := url.Parse(member)
		if err != nil {
			continue
		}
		host, port, err := net.SplitHostPort(u.Host)
		if err != nil {
			continue
		}
		addr, err := netip.ParseAddr(host)
		number, bad := strconv.ParseUint(port, 10, 16)
		if err == nil && bad == nil && number > 1 {
			addrs = append(addrs, netip.AddrPortFrom(addr, uint16(number-1)))
		}
	}
	return addrs
}
