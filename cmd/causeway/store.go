package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/backup"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// store is the store of the records, with a copy of this host's own.
type store struct {
	*backup.Store
	etcd interface {
		backup.Identified
		// Backup writes a snapshot of it.
		Backup(ctx context.Context, w io.Writer) error
		// Restored is closed when it was restored from a backup under this process.
		Restored() <-chan struct{}
		Close() error
	}
}

func openStore(ctx context.Context, s settings, self *identity, board *health.Board, log *logrus.Entry) (*store, error) {
	password, err := s.storePassword()
	if err != nil {
		return nil, err
	}
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
	if len(s.store) > 0 {
		opened.etcd, err = kvstore.Open(kvstore.Config{
			Endpoints: s.store, Prefix: s.storePrefix, CACert: s.onHost(s.caCert), Cert: s.onHost(s.cert), Key: s.onHost(s.key),
			Username: s.username, Password: password, Identity: identity, Board: board,
		})
	} else {
		opened.etcd, err = kvstore.StartEmbedded(ctx, kvstore.EmbeddedConfig{
			DataDir: s.dataDir, Listen: s.storeListen, Prefix: s.storePrefix,
			CACert: s.onHost(s.caCert), Cert: s.onHost(s.cert), Key: s.onHost(s.key), Identity: identity, Board: board, Log: log,
		})
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

// Run keeps the copy, and ends with an embedded store that ends by itself.
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
	if embedded, ok := s.etcd.(*kvstore.Embedded); ok {
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-embedded.Failed():
				return embedded.Failure()
			}
		})
	}
	return group.Wait()
}

func (s *store) Close() error { return s.etcd.Close() }

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
