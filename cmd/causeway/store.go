package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/backup"
	"github.com/causeway-net/causeway/cluster"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/quorum"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

// store is the store of the records, with a copy of this host's own.
type store struct {
	*backup.Store
	etcd interface {
		backup.Identified
		// Backup writes a snapshot of it.
		Backup(ctx context.Context, w io.Writer) error
		// Roles says what each of its members does.
		Roles(ctx context.Context) (map[string]string, error)
		// Restored is closed when it was restored from a backup under this process.
		Restored() <-chan struct{}
		Close() error
	}
	// cluster is this host's place in a closed cluster; nil in one that is not.
	cluster *cluster.Cluster
}

func openStore(ctx context.Context, s settings, self *identity, host fabric.Host, board *health.Board, log *logrus.Entry) (*store, error) {
	if s.storeReset {
		board.Report(health.Scope{Part: health.Environment, Object: "store-reset"},
			errors.New("--store-reset is set: remove it, or an emptied store is accepted at the next start too"))
	}
	running, err := runsContainers(s)
	if err != nil {
		return nil, err
	}
	known := self.Store
	identity := kvstore.Identity{
		Known: known, Keep: self.keepStore, Mark: records.HostKey(self.Host), Running: running, Reset: s.storeReset,
	}
	var opened store
	if s.closed() {
		err = opened.openClosed(ctx, s, host, identity, board, log)
	} else {
		err = opened.openOwn(ctx, s, identity, board, log)
	}
	if err != nil {
		return nil, err
	}
	opened.Store, err = backup.Open(opened.etcd, backup.Config{
		Host: self.Host, Mirror: s.mirrors(), Path: filepath.Join(s.dataDir, "records.json"),
		Board: board,
	})
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return &opened, nil
}

// openOwn opens an etcd that the user runs, or the one here that --store-listen offers.
func (s *store) openOwn(ctx context.Context, c settings, identity kvstore.Identity, board *health.Board, log *logrus.Entry) error {
	password, err := c.storePassword()
	if err != nil {
		return err
	}
	if len(c.store) > 0 {
		s.etcd, err = kvstore.Open(kvstore.Config{
			Endpoints: c.store, Prefix: c.storePrefix, CACert: c.onHost(c.caCert), Cert: c.onHost(c.cert), Key: c.onHost(c.key),
			Username: c.username, Password: password, Identity: identity, Board: board,
		})
		return err
	}
	if cluster.IsClosed(c.dataDir) {
		return fmt.Errorf("--store-listen would open the store of a closed cluster, which %s has: leave it out", c.dataDir)
	}
	s.etcd, err = kvstore.StartEmbedded(ctx, kvstore.EmbeddedConfig{
		DataDir: c.dataDir, Listen: c.storeListen, Prefix: c.storePrefix,
		CACert: c.onHost(c.caCert), Cert: c.onHost(c.cert), Key: c.onHost(c.key), Identity: identity, Board: board, Log: log,
	})
	return err
}

// openClosed opens the store that the cluster's hosts hold.
func (s *store) openClosed(ctx context.Context, c settings, host fabric.Host, identity kvstore.Identity, board *health.Board, log *logrus.Entry) error {
	config := cluster.Config{
		DataDir: c.dataDir, Host: host.Name, Version: host.Version, Address: host.VTEP, Port: c.clusterPort,
		Token: c.join, Store: identity.Known, Board: board, Log: log,
	}
	if c.storeReset {
		config.Store = ""
	}
	var err error
	if s.cluster, err = cluster.Open(ctx, config); err != nil {
		return err
	}
	s.etcd, err = kvstore.Open(kvstore.Config{
		Endpoints: s.cluster.State().Members, TLS: s.cluster.Dir.Client(), Prefix: c.storePrefix, Identity: identity, Board: board,
	})
	if err != nil {
		return errors.Join(err, s.cluster.Close())
	}
	return nil
}

// roles gives what hosts do in the store, where they hold it.
func (s *store) roles() func(context.Context) (map[string]string, error) {
	if s.cluster == nil {
		return nil
	}
	return s.etcd.Roles
}

// Run keeps the copy and this host's place in the cluster, and ends with a store
// here that ends by itself.
func (s *store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Store.Run(ctx) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.etcd.Restored():
			return errors.New("the store was restored from a backup: causeway has to start again, and puts back what this host has written since")
		}
	})
	switch etcd := s.etcd.(type) {
	case *kvstore.Embedded:
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-etcd.Failed():
				return etcd.Failure()
			}
		})
	case *kvstore.Etcd:
		if s.cluster != nil {
			group.Go(func() error { return s.cluster.Run(ctx, etcd) })
			controller := quorum.New(quorum.Config{Host: s.cluster.Host, Store: etcd, Member: s.cluster, Board: s.cluster.Board, Log: s.cluster.Log})
			group.Go(func() error { return controller.Run(ctx) })
		}
	}
	return group.Wait()
}

// wish tells the cluster whether this host is to hold the store.
func (s *store) wish(host *fabric.Host, wish string) {
	if s.cluster != nil {
		host.StoreWish, host.StorePeer = wish, s.cluster.Peer()
	}
}

// newToken makes a token that hosts join with.
func (s *store) newToken(ctx context.Context, life time.Duration) (trust.Token, error) {
	etcd, ok := s.etcd.(*kvstore.Etcd)
	if !ok || s.cluster == nil {
		return trust.Token{}, errors.New("this cluster keeps its records in an etcd of your own: a host joins it with the same --store, and takes no token")
	}
	return s.cluster.NewToken(ctx, etcd, life)
}

// rotate begins the replacement of the authority.
func (s *store) rotate(ctx context.Context) error {
	etcd, ok := s.etcd.(*kvstore.Etcd)
	if !ok || s.cluster == nil {
		return errors.New("this cluster keeps its records in an etcd of your own, and has no authority")
	}
	return s.cluster.Rotate(ctx, etcd)
}

// remoteStore are the addresses of the store where it is on other hosts.
func (s *settings) remoteStore() ([]string, error) {
	if !s.closed() {
		return s.store, nil
	}
	return cluster.Members(s.dataDir)
}

func (s *store) Close() error {
	err := s.etcd.Close()
	if s.cluster != nil {
		err = errors.Join(err, s.cluster.Close())
	}
	return err
}

// storePassword gives the password of the store's user. A file may end in a newline.
func (s *settings) storePassword() (string, error) {
	if s.passwordFile == "" {
		return s.password, nil
	}
	text, err := os.ReadFile(s.onHost(s.passwordFile))
	if err != nil {
		return "", fmt.Errorf("--store-password-file: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("--store-password-file: %s is empty", s.passwordFile)
	}
	return password, nil
}
