// Package etcdserver runs an etcd in this process.
//
// A request's path: it comes through an interceptor (streams.go), which refuses revoked
// certificates and ends streams when the server closes, to etcd. What would end the
// process in etcd's own program, a fatal error, ends the server alone (log.go). While
// the disk is nearly full no writes are taken (room.go).
package etcdserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/server/v3/embed"
)

// Server is an etcd in this process.
type Server struct {
	// Embed is set by Start.
	Embed *embed.Etcd
	// Dir takes its files, in Dir/etcd.
	Dir string

	streams *streams
	log     *serverLog
	once    sync.Once
}

// New makes a Server whose files are in dir; log takes its errors, nil drops them.
func New(dir string, log *logrus.Entry) *Server {
	return &Server{Dir: dir, streams: newStreams(), log: &serverLog{to: log, died: make(chan struct{})}}
}

// Start runs an etcd and returns when it takes requests, or why not. It runs until
// Close.
func (s *Server) Start(ctx context.Context, config *embed.Config) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if err := checkStartRoom(s.Dir, config.Dir); err != nil {
		return err
	}
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.log.logger())
	config.GRPCAdditionalServerOptions = append(config.GRPCAdditionalServerOptions, s.streams.interceptors()...)
	reserve, err := withholdReserve(s.Dir, config.Dir)
	if err != nil {
		return err
	}
	defer reserve()
	if err := s.launch(ctx, config); err != nil {
		return err
	}
	select {
	case <-s.Embed.Server.ReadyNotify():
		return nil
	case <-s.Embed.Server.StopNotify():
		return errors.New("the server stopped while starting")
	case err := <-s.Embed.Err():
		return err
	case <-s.log.died:
		return s.log.death
	case <-ctx.Done():
		return ctx.Err()
	}
}

// launch makes an error of what etcd panics about: files it cannot make sense of.
func (s *Server) launch(ctx context.Context, config *embed.Config) error {
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan result, 1)
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				started <- result{err: fmt.Errorf("etcd cannot use %s: %v", config.Dir, cause)}
			}
		}()
		etcd, err := embed.StartEtcd(config)
		started <- result{etcd, err}
	}()
	select {
	case r := <-started:
		s.Embed = r.etcd
		return r.err
	case <-s.log.died:
		return fmt.Errorf("etcd cannot use %s: %w", config.Dir, s.log.death)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Revoke refuses the hosts with these certificates, by serial number, and ends
// their open streams. All certificates revoked are given each time.
func (s *Server) Revoke(serials []string) { s.streams.revoke(serials) }

// Failed is closed when the server has ended by itself, as on a full disk; Failure
// then says why.
func (s *Server) Failed() <-chan struct{} { return s.log.died }

// Failure is why the server has ended by itself.
func (s *Server) Failure() error {
	return fmt.Errorf("the store in %s has failed: %w", s.Dir, s.log.death)
}

// Close stops the server. Other hosts' requests end at once. It does not wait for
// a server that has failed: that one may never end.
func (s *Server) Close() {
	s.once.Do(func() {
		s.log.quiet.Store(true)
		s.streams.drain()
		if s.Embed == nil {
			return
		}
		closed := make(chan struct{})
		go func() {
			s.Embed.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-s.log.died:
		}
	})
}

// BaseConfig is what all servers have in common; their files are in dataDir/etcd.
// volatile says that nothing has to outlive a crash of the machine.
func BaseConfig(dataDir string, volatile bool) *embed.Config {
	server := embed.NewConfig()
	server.Dir = filepath.Join(dataDir, "etcd")
	// It makes the cluster ID: a store that is started again without its files differs from the old one.
	server.InitialClusterToken = rand.Text()
	server.AutoCompactionMode = embed.CompactorModePeriodic
	server.AutoCompactionRetention = "1h"
	server.QuotaBackendBytes = quota
	// A database that was near its quota is made smaller when it is opened.
	server.BootstrapDefragThresholdMegabytes = 100
	server.EnableGRPCGateway = false
	server.UnsafeNoFsync = volatile
	if volatile {
		server.BcryptCost = 4 // bcrypt's least: the default takes seconds on a busy machine
	}
	return server
}
