package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/health"
)

// An etcd that finds no room for a write ends, and its database may be damaged.
// So the store stops to take writes before that, as etcd does by itself at its
// quota: by the NOSPACE alarm, which holds for all hosts.
const (
	// newStoreRoom is what a new store takes at once: etcd reserves two logs of 64 MB.
	newStoreRoom = 160 << 20
	// startRoom is what an etcd writes while it starts.
	startRoom = 8 << 20
	// writeRoom is what must be left for writes; after an alarm, twice as much.
	writeRoom = 32 << 20
	// lowRoom is when users are warned.
	lowRoom = 256 << 20
	quota   = 4 << 30

	checkRoomEvery = 2 * time.Second
)

// FreeBytes is what is left on dir's file system.
func FreeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space in %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// checkStartRoom refuses a start that would end in the middle. member is etcd's folder in dir.
func checkStartRoom(dir, member string) error {
	free, err := FreeBytes(dir)
	if err != nil {
		return err
	}
	needed := int64(startRoom)
	if _, err := os.Stat(member); errors.Is(err, fs.ErrNotExist) {
		needed = newStoreRoom
	}
	if free < needed {
		return fmt.Errorf("its file system is full: %d MB are left and %d MB are needed", free>>20, needed>>20)
	}
	return nil
}

// withholdReserve keeps an etcd that starts with little room from reserving its next
// log: the attempt takes all that is left before it fails, and the end of the
// current log, which etcd frees and takes again meanwhile. A folder stands where the
// reserve would be until the returned function is called.
func withholdReserve(dir, member string) (end func(), err error) {
	logs := filepath.Join(member, "member", "wal")
	reserve := filepath.Join(logs, "0.tmp")
	if _, err := os.Stat(logs); errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // a new store
	}
	if err := os.RemoveAll(reserve); err != nil { // a crash left it
		return nil, err
	}
	free, err := FreeBytes(dir)
	if err != nil || free >= wal.SegmentSizeBytes+startRoom {
		return func() {}, err
	}
	return func() { _ = os.Remove(reserve) }, os.Mkdir(reserve, 0o700)
}

// WatchRoom reports to board how much room there is, and stops and allows writes, until
// ctx ends.
func (s *Server) WatchRoom(ctx context.Context, board *health.Board) {
	tick := time.NewTicker(checkRoomEvery)
	defer tick.Stop()
	for {
		err := s.checkRoom(ctx)
		if ctx.Err() != nil {
			return
		}
		board.Report(health.Scope{Part: health.Store, Object: "room"}, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// checkRoom raises or ends the alarm, and says what users have to know. The texts
// have no figures that change: a fault is logged again when its text changes.
func (s *Server) checkRoom(ctx context.Context) error {
	free, err := FreeBytes(s.Dir)
	if err != nil {
		return err
	}
	size := s.Embed.Server.Backend().Size()
	full := free < writeRoom || s.alarmed() && (free < 2*writeRoom || size >= quota)
	if full != s.alarmed() {
		if err := s.alarm(ctx, uint64(s.Embed.Server.MemberID()), full); err != nil {
			return err
		}
	}
	const needed = "the store takes no writes until %d MB are free on the file system of %s"
	switch {
	case size >= quota:
		return fmt.Errorf("the store takes no writes: its database has reached its quota of %d MB", int64(quota)>>20)
	case full:
		return fmt.Errorf(needed, int64(2*writeRoom)>>20, s.Dir)
	case free < lowRoom:
		return fmt.Errorf("less than %d MB are left on the file system of %s: with less than %d MB the store takes no writes",
			int64(lowRoom)>>20, s.Dir, int64(writeRoom)>>20)
	case size > quota/10*8:
		return fmt.Errorf("the store's database has more than 80 %% of its quota of %d MB", int64(quota)>>20)
	}
	return nil
}

// Full gives the members that have no room, by ID: while there are any the store takes no writes.
func (s *Server) Full() (members []uint64) {
	for _, alarm := range s.Embed.Server.Alarms() {
		if alarm.Alarm == pb.AlarmType_NOSPACE {
			members = append(members, alarm.MemberID)
		}
	}
	return members
}

// Relieve has the store take writes although the member has no room: it is away. Back, and
// full still, it says so again.
func (s *Server) Relieve(ctx context.Context, member uint64) error {
	return s.alarm(ctx, member, false)
}

// alarmed says whether the store takes no writes for want of space here.
func (s *Server) alarmed() bool { return slices.Contains(s.Full(), uint64(s.Embed.Server.MemberID())) }

func (s *Server) alarm(ctx context.Context, member uint64, raise bool) error {
	const timeout = 8 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	action := pb.AlarmRequest_DEACTIVATE
	if raise {
		action = pb.AlarmRequest_ACTIVATE
	}
	_, err := s.Embed.Server.Alarm(ctx, &pb.AlarmRequest{Action: action, MemberID: member, Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		return fmt.Errorf("the store's alarm of no space: %w", err)
	}
	return nil
}
