package kvstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore/etcdserver"
)

// EmbeddedConfig says how to run an etcd in this process.
type EmbeddedConfig struct {
	// DataDir takes the store's files, in DataDir/etcd. One process uses it at a time.
	DataDir string
	// Listen is where other hosts reach the store: a URL or host:port, the host
	// an IP address. Empty: this process alone uses it, and nothing listens.
	Listen string
	// Prefix, Identity and Board are as in Config.
	Prefix   string
	Identity Identity
	Board    *health.Board
	// Cert and Key make Listen speak TLS; with CACert, only clients that have a
	// certificate of that authority are let in.
	CACert, Cert, Key string
	// Log takes the server's errors; nil drops them.
	Log *logrus.Entry
	// Volatile says that nothing has to outlive a crash of the machine, for tests.
	Volatile bool
}

// Embedded is an etcd of one member in this process, and the Store on it. The
// Store does not go through a socket, and needs no certificate.
type Embedded struct {
	*Etcd
	*etcdserver.Server
	room sync.WaitGroup
	once sync.Once
	err  error
}

// StartEmbedded runs an etcd and returns when it takes requests, or why not. It
// runs until Close.
func StartEmbedded(ctx context.Context, config EmbeddedConfig) (*Embedded, error) {
	e := &Embedded{
		Etcd:   newEtcd("in "+config.DataDir, config.Prefix, config.Identity, config.Board),
		Server: etcdserver.New(config.DataDir, config.Log),
	}
	etcd, err := serverConfig(config)
	if err == nil {
		err = e.Start(ctx, etcd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the store in %s: %w", config.DataDir, err), e.Close())
	}
	e.client = v3client.New(e.Embed.Server)
	close(e.connected)
	e.room.Go(func() { e.WatchRoom(e.ctx, config.Board) })
	return e, nil
}

// Open gives another Store on the same server. The caller closes it before the server.
func (e *Embedded) Open(prefix string, identity Identity, board *health.Board) *Etcd {
	return openInProcess(e.Server, prefix, identity, board)
}

// openInProcess gives the Store on a server in this process.
func openInProcess(server *etcdserver.Server, prefix string, identity Identity, board *health.Board) *Etcd {
	e := newEtcd("in "+server.Dir, prefix, identity, board)
	e.client = v3client.New(server.Embed.Server)
	close(e.connected)
	return e
}

// Endpoint is the URL that other hosts reach the store at; empty when nothing listens.
func (e *Embedded) Endpoint() string {
	if len(e.Embed.Clients) == 0 {
		return ""
	}
	return e.Embed.Config().ListenClientUrls[0].Scheme + "://" + e.Embed.Clients[0].Addr().String()
}

// Close stops the server. Other hosts' requests end at once. Follow and Hold
// must have ended. A second Close does nothing.
func (e *Embedded) Close() error {
	e.once.Do(func() {
		e.err = e.Etcd.Close()
		e.room.Wait()
		e.Server.Close()
	})
	return e.err
}

// serverConfig is etcd's for one member that no other can join: it has a peer
// URL, as etcd demands one, but does not listen on it.
func serverConfig(config EmbeddedConfig) (*embed.Config, error) {
	server := etcdserver.BaseConfig(config.DataDir, config.Volatile)
	server.Name = "causeway"
	server.ListenPeerUrls = nil
	server.InitialCluster = server.InitialClusterFromName(server.Name)
	// The one member waits one to five ticks until it elects itself.
	server.TickMs, server.ElectionMs = 20, 100
	server.ListenClientUrls = nil
	if config.Listen == "" {
		return server, nil
	}
	listen, err := listenURL(config)
	if err != nil {
		return nil, err
	}
	server.ListenClientUrls = []url.URL{*listen}
	server.AdvertiseClientUrls = []url.URL{*listen}
	server.ClientTLSInfo = transport.TLSInfo{
		CertFile: config.Cert, KeyFile: config.Key,
		TrustedCAFile: config.CACert, ClientCertAuth: config.CACert != "",
	}
	return server, nil
}

func listenURL(config EmbeddedConfig) (*url.URL, error) {
	if err := checkPair(config.Cert, config.Key); err != nil {
		return nil, err
	}
	if config.CACert != "" {
		if _, err := readCA(config.CACert); err != nil {
			return nil, err
		}
		if config.Cert == "" {
			return nil, fmt.Errorf("CA certificate %s is given without a certificate to listen with", config.CACert)
		}
	}
	secure := config.Cert != ""
	address := config.Listen
	if scheme, rest, found := strings.Cut(address, "://"); found && strings.HasPrefix(rest, ":") {
		address = scheme + "://[::]" + rest
	} else if strings.HasPrefix(address, ":") {
		address = "[::]" + address
	}
	listen, err := parseURL(address, secure)
	if err != nil {
		return nil, fmt.Errorf("listen address: %w", err)
	}
	if secure != (listen.Scheme == "https") {
		return nil, fmt.Errorf("listen address %s: https takes a certificate and its key, http takes none", config.Listen)
	}
	return listen, nil
}
