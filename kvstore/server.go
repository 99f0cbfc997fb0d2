package kvstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/server/v3/embed"
)

// etcdServer is an etcd in this process.
type etcdServer struct {
	etcd    *embed.Etcd
	dir     string
	streams *streams
	log     *serverLog
	once    sync.Once
}

func newServer(dir string, log *logrus.Entry) *etcdServer {
	return &etcdServer{dir: dir, streams: newStreams(), log: &serverLog{to: log, died: make(chan struct{})}}
}

// start runs an etcd and returns when it takes requests, or why not. It runs until
// close.
func (s *etcdServer) start(ctx context.Context, config *embed.Config) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := checkStartRoom(s.dir, config.Dir); err != nil {
		return err
	}
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.log.logger())
	config.GRPCAdditionalServerOptions = append(config.GRPCAdditionalServerOptions, s.streams.interceptors()...)
	reserve, err := withholdReserve(s.dir, config.Dir)
	if err != nil {
		return err
	}
	defer reserve()
	if err := s.launch(ctx, config); err != nil {
		return err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case <-s.etcd.Server.StopNotify():
		return errors.New("the server stopped while starting")
	case err := <-s.etcd.Err():
		return err
	case <-s.log.died:
		return s.log.death
	case <-ctx.Done():
		return ctx.Err()
	}
}

// launch makes an error of what etcd panics about: files it cannot make sense of.
func (s *etcdServer) launch(ctx context.Context, config *embed.Config) error {
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
		s.etcd = r.etcd
		return r.err
	case <-s.log.died:
		return fmt.Errorf("etcd cannot use %s: %w", config.Dir, s.log.death)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Failed is closed when the server has ended by itself, as on a full disk; Failure
// then says why.
func (s *etcdServer) Failed() <-chan struct{} { return s.log.died }

// Failure is why the server has ended by itself.
func (s *etcdServer) Failure() error {
	return fmt.Errorf("the store in %s has failed: %w", s.dir, s.log.death)
}

// close stops the server. Other hosts' requests end at once. It does not wait for
// a server that has failed: that one may never end.
func (s *etcdServer) close() {
	s.once.Do(func() {
		s.log.quiet.Store(true)
		s.streams.end()
		if s.etcd == nil {
			return
		}
		closed := make(chan struct{})
		go func() {
			s.etcd.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-s.log.died:
		}
	})
}
