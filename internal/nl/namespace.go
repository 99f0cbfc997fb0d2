package nl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NewNamespace creates a network namespace without a name: it lives as long as
// what it returns is open, or bound to a path by [Bind].
func NewNamespace() (netns.NsHandle, error) {
	created := netns.None()
	err := Do(netns.None(), func() (err error) {
		created, err = netns.New()
		return err
	})
	if err != nil {
		return netns.None(), fmt.Errorf("create a network namespace: %w", err)
	}
	return created, nil
}

// Bind gives ns a name: the file at path, as ip-netns(8) does. Until this
// returns, a crash leaves no namespace behind, at most an empty file.
func Bind(ns netns.NsHandle, path string) error {
	if err := shareDir(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("name a network namespace: %w", err)
	}
	if err := file.Close(); err != nil {
		return err
	}
	source := fmt.Sprintf("/proc/self/fd/%d", int(ns))
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind a network namespace to %s: %w", path, err)
	}
	return nil
}

// shareDir makes dir a shared mount, as the first "ip netns add" does: one that
// is bound over dir later would otherwise keep our namespaces alive under it.
func shareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	share := func() error { return unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make %s a mount: %w", dir, err)
	}
	if err := share(); err != nil {
		return fmt.Errorf("share the mount %s: %w", dir, err)
	}
	return nil
}

// Unbind takes the name at path away; the namespace goes with its last user.
func Unbind(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unbind the network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unbind a network namespace: %w", err)
	}
	return nil
}

// OpenNamespace opens the namespace at path; the error is [ErrNotFound] if there
// is no file or only an empty one.
func OpenNamespace(path string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return netns.None(), fmt.Errorf("network namespace %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return netns.None(), fmt.Errorf("network namespace %s: %w", path, err)
	}
	var filesystem unix.Statfs_t
	if err := unix.Fstatfs(int(ns), &filesystem); err != nil {
		return netns.None(), errors.Join(fmt.Errorf("network namespace %s: %w", path, err), ns.Close())
	}
	if filesystem.Type != unix.NSFS_MAGIC {
		return netns.None(), errors.Join(fmt.Errorf("network namespace %s: %w", path, ErrNotFound), ns.Close())
	}
	return ns, nil
}

// IsBound says whether path is the name of the Handle's namespace.
func (h *Handle) IsBound(path string) bool {
	var named, own unix.Stat_t
	if unix.Stat(path, &named) != nil || unix.Fstat(int(h.ns), &own) != nil {
		return false
	}
	return named.Dev == own.Dev && named.Ino == own.Ino
}
