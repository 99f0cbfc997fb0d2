package kvstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore/etcdserver"
)

// smallDisk mounts a file system of size bytes for the test, and gives what fills
// it until only free bytes are left.
func smallDisk(t *testing.T, size string) (dir string, leave func(free int64)) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, func(free int64) {
		t.Helper()
		for wait := (pause{}); ; wait.after(t.Context()) {
			err := fill(filepath.Join(dir, "filler"), free)
			if err == nil {
				return
			}
			if !errors.Is(err, unix.ENOSPC) { // etcd reserved its next log meanwhile
				t.Fatal(err)
			}
		}
	}
}

// fill makes the file as long as leaves free bytes.
func fill(name string, free int64) error {
	if now, err := etcdserver.FreeBytes(filepath.Dir(name)); err != nil || now == free {
		return err
	}
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return err
	}
	now, err := etcdserver.FreeBytes(filepath.Dir(name))
	if err != nil || now <= free {
		return err
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(file.Fd()), 0, 0, now-free), file.Close())
}

// While its disk is full, the store is read and not written, for all hosts; it is
// written again when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir, leave := smallDisk(t, "250m")
	board, _ := recordedBoard()
	config := EmbeddedConfig{DataDir: dir, Listen: "127.0.0.1:0", Board: board}
	here := startEmbedded(t, config)
	there := open(t, Config{Endpoints: []string{here.Endpoint()}})
	put(t, here, "a", 1)
	waitFault(t, board, "less than 256 MB are left")

	waitFault(t, board, "takes no writes until 64 MB are free on the file system of "+dir, func() {
		leave(20 << 20) // again, where etcd reserved its next log meanwhile and could not
	})
	for _, store := range []Store{here, there} {
		_, err := store.Commit(t.Context(), Txn{Then: []Op{Put("b", 1)}})
		if err == nil || !strings.Contains(err.Error(), "its disk or its quota is full") || errors.Is(err, ErrUnavailable) {
			t.Errorf("a write to a full disk: %v", err)
		}
		if _, err := store.Get(t.Context(), "a"); err != nil {
			t.Errorf("a read from a full disk: %v", err)
		}
	}
	closeStore(t, here)

	// A start is refused in a sentence, and works with a little room.
	leave(1 << 20)
	_, err := StartEmbedded(t.Context(), config)
	if want := "start the store in " + dir + ": its file system is full: 1 MB are left and 8 MB are needed"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	leave(20 << 20)
	again := startEmbedded(t, config)
	if _, err := again.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	leave(200 << 20)
	putAsSoonAs(t, again, "b")
	waitFault(t, board, "less than 256 MB are left")
}

func TestNewStoreNeedsRoom(t *testing.T) {
	t.Parallel()
	dir, _ := smallDisk(t, "100m")
	_, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: dir})
	if err == nil || !strings.HasSuffix(err.Error(), "its file system is full: 100 MB are left and 160 MB are needed") {
		t.Error(err)
	}
}

// putAsSoonAs puts when the store takes writes again.
func putAsSoonAs(t *testing.T, store Store, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for wait := (pause{}); ; wait.after(ctx) {
		_, err := store.Commit(ctx, Txn{Then: []Op{Put(key, 1)}})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("never written: ", err)
		}
	}
}

// waitFault waits until the board has the fault about the disk, with text in it,
// and does meanwhile what it is given.
func waitFault(t *testing.T, board *health.Board, text string, meanwhile ...func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for wait := (pause{}); ctx.Err() == nil; wait.after(ctx) {
		for _, do := range meanwhile {
			do()
		}
		for _, fault := range board.Faults() {
			if fault.Object == "room" && strings.Contains(fault.Text, text) {
				return
			}
		}
	}
	t.Fatalf("never a fault: %s; there are %+v", text, board.Faults())
}
