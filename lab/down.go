package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// cgroupRoot is where the containers' cgroups are, in each hierarchy.
const cgroupRoot = "causeway-lab"

// Down takes the lab down, also one that came up in part, and leaves nothing
// of it. The machines are killed, not shut down: all that they changed lies in
// their own namespaces and folders, and goes with them.
func (l *Lab) Down(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.killMembers(ctx); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name(), err)
	}
	l.reap()
	if err := until(ctx, func(context.Context) error { return removeCgroups(l.Name()) }); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name(), err)
	}
	for _, dir := range []string{dataDir(l.Name()), runDir(l.Name())} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("lab %s: %w", l.Name(), err)
		}
		// The folder of all labs goes with the last of them.
		if err := os.Remove(filepath.Dir(dir)); err != nil && !isInUse(err) {
			return fmt.Errorf("lab %s: %w", l.Name(), err)
		}
	}
	return nil
}

// reap takes away what this process itself had started.
func (l *Lab) reap() {
	for _, r := range l.state.Machines {
		r.Keeper.reap()
		for _, p := range r.Daemons {
			p.reap()
		}
	}
}

func isInUse(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY)
}

// killMembers returns when nothing runs in the lab any more. A process may start
// another while we look, so we look again until nobody is left.
func (l *Lab) killMembers(ctx context.Context) error {
	defer l.holdNamespaces()()
	for {
		members, err := l.members()
		if err != nil || len(members) == 0 {
			return err
		}
		for _, p := range members {
			if err := p.signal(syscall.SIGKILL); err != nil {
				return err
			}
		}
		for _, p := range members {
			if err := p.wait(ctx); err != nil {
				return err
			}
		}
	}
}

// holdNamespaces keeps the lab's namespaces there though their last process ends:
// the kernel would give their numbers to new ones, another lab's maybe.
func (l *Lab) holdNamespaces() (release func()) {
	var held []*os.File
	for _, r := range l.state.Machines {
		for _, kind := range []string{"mnt", "net"} {
			// An error means that the keeper ended before.
			if file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", r.Keeper.PID, kind)); err == nil {
				held = append(held, file)
			}
		}
	}
	return func() {
		for _, file := range held {
			_ = file.Close()
		}
	}
}

// members are the processes that live in a namespace or a cgroup of the lab:
// keepers, daemons, shims, containers, and what was started by [Machine.Command].
func (l *Lab) members() ([]process, error) {
	namespaces := make(map[string]bool)
	for _, r := range l.state.Machines {
		namespaces[r.Mount], namespaces[r.Net] = true, true
	}
	delete(namespaces, "")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var members []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// Identified first: one that ends meanwhile is then not taken for another.
		p, err := identify(pid)
		if err == nil && p.alive() && l.has(pid, namespaces) {
			members = append(members, p)
		}
	}
	return members, nil
}

func (l *Lab) has(pid int, namespaces map[string]bool) bool {
	for _, kind := range []string{"mnt", "net"} {
		// An error means that it ended meanwhile.
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err == nil && namespaces[ns] {
			return true
		}
	}
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(cgroups), ":/"+filepath.Join(cgroupRoot, l.Name())+"/")
}

// removeCgroups removes the lab's cgroups from all hierarchies, cgroup v1 and v2.
func removeCgroups(name string) error {
	for _, pattern := range []string{"/sys/fs/cgroup/" + cgroupRoot, "/sys/fs/cgroup/*/" + cgroupRoot} {
		roots, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, root := range roots {
			if err := removeTree(filepath.Join(root, name)); err != nil {
				return err
			}
			if err := os.Remove(root); err != nil && !isInUse(err) {
				return err
			}
		}
	}
	return nil
}

// removeTree removes folders from the innermost out; the files in them are the kernel's.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
