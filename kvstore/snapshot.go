package kvstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/causeway-net/causeway/kvstore/etcdserver"
)

// Backup writes all of the store to w: a snapshot in etcd's own form, with its
// checksum at the end.
func (e *Etcd) Backup(ctx context.Context, w io.Writer) error {
	if err := e.Health(ctx); err != nil { // and it is the store that this process belongs to
		return err
	}
	from, err := request(ctx, e, func(_ context.Context, client *clientv3.Client) (io.ReadCloser, error) {
		return client.Snapshot(ctx)
	})
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := io.Copy(w, from); err != nil {
		return fmt.Errorf("read a snapshot of the store: %w", e.explain(ctx, err))
	}
	return nil
}

// Restoring says what a store is restored to.
type Restoring struct {
	// Snapshot is the file that Backup wrote.
	Snapshot string
	// DataDir gets the store's files, in DataDir/etcd. What is there is kept beside
	// it, as etcd.before-restore.
	DataDir string
	// Prefix is as in Config.
	Prefix string
	// Member is the name of the one member that the store has then, and Peer the URL
	// that others reach it at; empty for an etcd that is alone.
	Member, Peer string
}

// Restore makes a store of one member from a snapshot, and gives the member's ID. The
// store's identity is a descendant of the one that was backed up: hosts that belong to
// that one accept it, and put back what they have written since.
func Restore(ctx context.Context, r Restoring) (member uint64, err error) {
	dir := filepath.Join(r.DataDir, "etcd")
	kept := dir + ".before-restore"
	if err := checkNotThere(kept); err != nil {
		return 0, err
	}
	had, err := moveAside(dir, kept)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
			if had {
				err = errors.Join(err, os.Rename(kept, dir))
			}
		}
	}()
	alone := etcdserver.BaseConfig(r.DataDir, false)
	name, peer := "causeway", alone.AdvertisePeerUrls[0].String()
	if r.Member != "" {
		name, peer = r.Member, r.Peer
	}
	err = unpack(snapshot.RestoreConfig{
		SnapshotPath: r.Snapshot, Name: name, OutputDataDir: dir, PeerURLs: []string{peer},
		InitialCluster: name + "=" + peer, InitialClusterToken: alone.InitialClusterToken,
	})
	if err != nil {
		return 0, fmt.Errorf("restore %s: %w", r.Snapshot, err)
	}
	return descend(ctx, r)
}

// unpack writes the snapshot's files. At a file that is no store and whose checksum fits
// etcd panics, or ends the process unless its log panics instead.
func unpack(config snapshot.RestoreConfig) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it is no snapshot of a store: %v", cause)
		}
	}()
	log := zap.NewNop().WithOptions(zap.WithFatalHook(zapcore.WriteThenPanic))
	return snapshot.NewV3(log).Restore(config)
}

func checkNotThere(path string) error {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is there from an earlier restore: remove it", path)
}

func moveAside(dir, to string) (had bool, err error) {
	err = os.Rename(dir, to)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// descend gives the restored store its identity. The server of this moment takes
// nobody's requests.
func descend(ctx context.Context, r Restoring) (member uint64, err error) {
	server := etcdserver.New(r.DataDir, nil)
	config := etcdserver.BaseConfig(r.DataDir, false)
	config.Name, config.ListenPeerUrls, config.ListenClientUrls = "causeway", nil, nil
	if r.Member != "" {
		config.Name = r.Member
	}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	defer server.Close()
	if err := server.Start(ctx, config); err != nil {
		return 0, fmt.Errorf("open the restored store: %w", err)
	}
	e := openInProcess(server, r.Prefix, Identity{}, nil)
	defer e.Close()
	id, _, err := e.readIdentity(ctx)
	if err != nil {
		return 0, fmt.Errorf("open the restored store: %w", err)
	}
	if id == "" {
		return 0, fmt.Errorf("the snapshot has no records below %s", e.prefix)
	}
	data, err := encode(identityKey, descendant(id))
	if err != nil {
		return 0, err
	}
	if _, err := e.commit(ctx, nil, []clientv3.Op{clientv3.OpPut(e.prefix+identityKey, string(data))}, nil); err != nil {
		return 0, fmt.Errorf("name the restored store: %w", err)
	}
	return uint64(server.Embed.Server.MemberID()), nil
}
