package kvstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"google.golang.org/grpc"

	"github.com/causeway-net/causeway/internal/health"
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
	server  *embed.Etcd
	streams *streams
	log     *serverLog
	room    sync.WaitGroup
	once    sync.Once
	err     error
}

// StartEmbedded runs an etcd and returns when it takes requests, or why not. It
// runs until Close.
func StartEmbedded(ctx context.Context, config EmbeddedConfig) (*Embedded, error) {
	log := &serverLog{to: config.Log, died: make(chan struct{})}
	e := &Embedded{
		Etcd:    newEtcd("in "+config.DataDir, config.Prefix, config.Identity, config.Board),
		streams: newStreams(),
		log:     log,
	}
	if err := e.start(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("start the store in %s: %w", config.DataDir, err), e.Close())
	}
	e.client = v3client.New(e.server.Server)
	close(e.connected)
	e.room.Go(func() { e.watchRoom(e.ctx, config.DataDir) })
	return e, nil
}

func (e *Embedded) start(ctx context.Context, config EmbeddedConfig) error {
	server, err := serverConfig(config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(config.DataDir, 0o700); err != nil {
		return err
	}
	if err := checkStartRoom(config.DataDir, server.Dir); err != nil {
		return err
	}
	server.ZapLoggerBuilder = embed.NewZapLoggerBuilder(e.log.logger())
	server.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(e.streams.intercept)}
	if e.server, err = e.startServer(ctx, server); err != nil {
		return err
	}
	select {
	case <-e.server.Server.ReadyNotify():
		return nil
	case <-e.server.Server.StopNotify():
		return errors.New("the server stopped while starting")
	case err := <-e.server.Err():
		return err
	case <-e.log.died:
		return e.log.death
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startServer makes an error of what etcd panics about: files it cannot make sense of.
func (e *Embedded) startServer(ctx context.Context, config *embed.Config) (*embed.Etcd, error) {
	type result struct {
		server *embed.Etcd
		err    error
	}
	started := make(chan result, 1)
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				started <- result{err: fmt.Errorf("etcd cannot use %s: %v", config.Dir, cause)}
			}
		}()
		server, err := embed.StartEtcd(config)
		started <- result{server, err}
	}()
	select {
	case r := <-started:
		return r.server, r.err
	case <-e.log.died:
		return nil, fmt.Errorf("etcd cannot use %s: %w", config.Dir, e.log.death)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Failed is closed when the server has ended by itself, as on a full disk; Failure
// then says why.
func (e *Embedded) Failed() <-chan struct{} { return e.log.died }

// Failure is why the server has ended by itself.
func (e *Embedded) Failure() error {
	return fmt.Errorf("the store %s has failed: %w", e.name, e.log.death)
}

// Open gives another Store on the same server. The caller closes it before the server.
func (e *Embedded) Open(prefix string, identity Identity, board *health.Board) *Etcd {
	other := newEtcd(e.name, prefix, identity, board)
	other.client = v3client.New(e.server.Server)
	close(other.connected)
	return other
}

// Endpoint is the URL that other hosts reach the store at; empty when nothing listens.
func (e *Embedded) Endpoint() string {
	if len(e.server.Clients) == 0 {
		return ""
	}
	return e.server.Config().ListenClientUrls[0].Scheme + "://" + e.server.Clients[0].Addr().String()
}

// Close stops the server. Other hosts' requests end at once. Follow and Hold
// must have ended. A second Close does nothing.
func (e *Embedded) Close() error {
	e.once.Do(func() {
		e.err = e.Etcd.Close()
		e.room.Wait()
		e.log.quiet.Store(true)
		e.streams.end()
		if e.server != nil {
			e.closeServer()
		}
	})
	return e.err
}

// closeServer does not wait for a server that has failed: it may never end.
func (e *Embedded) closeServer() {
	closed := make(chan struct{})
	go func() {
		e.server.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-e.log.died:
	}
}

// serverConfig is etcd's for one member that no other can join: it has a peer
// URL, as etcd demands one, but does not listen on it.
func serverConfig(config EmbeddedConfig) (*embed.Config, error) {
	server := embed.NewConfig()
	server.Name = "causeway"
	server.Dir = filepath.Join(config.DataDir, "etcd")
	server.ListenPeerUrls = nil
	server.InitialCluster = server.InitialClusterFromName(server.Name)
	// It makes the cluster ID: a store that is started anew differs from the old one.
	server.InitialClusterToken = rand.Text()
	// The one member waits one to five ticks until it elects itself.
	server.TickMs, server.ElectionMs = 20, 100
	server.AutoCompactionMode = embed.CompactorModePeriodic
	server.AutoCompactionRetention = "1h"
	server.QuotaBackendBytes = quota
	// A database that was near its quota is made smaller when it is opened.
	server.BootstrapDefragThresholdMegabytes = 100
	server.EnableGRPCGateway = false
	server.UnsafeNoFsync = config.Volatile
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
