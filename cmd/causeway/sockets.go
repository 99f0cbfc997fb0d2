package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/plugin"
)

// sockets are what others reach this process at.
type sockets struct {
	// docker are the plugin's, agent is that of the commands.
	docker []net.Listener
	agent  net.Listener
	// host is the lock of being the one causeway here: see claimHost.
	host *os.File
	// folder is the agent's socket's, where it is causeway's own.
	folder string
}

// claimHost takes the lock that a host's network namespace has for one causeway:
// two would undo each other's work in the kernel. It is a file below /run, which
// a managed plugin and a binary both see and root alone writes; the kernel drops
// the lock with the process.
func claimHost(run string) (*os.File, error) {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("lock this host: %w", err)
	}
	path := filepath.Join(run, fmt.Sprintf("causeway.%d.lock", ns.Ino))
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock this host: %w", err)
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another causeway runs on this host")
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		if isAt(file, path) {
			return file, nil
		}
		_ = file.Close() // releaseHost deleted it meanwhile
	}
}

func isAt(file *os.File, path string) bool {
	ours, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(ours, there)
}

// releaseHost deletes the lock's file while it is locked, so that nobody has
// locked the one that is deleted.
func releaseHost(file *os.File) error {
	return errors.Join(os.Remove(file.Name()), file.Close())
}

// openSockets opens the plugin's socket, and for a managed plugin the host's too:
// engines find a managed plugin by its full name alone, by the plain one only
// what answers in the host's /run/docker/plugins. That is the first: an engine
// that boots goes on when the plugin's own socket answers, and asks for networks
// by the plain name.
func openSockets(ctx context.Context, s settings) (opened sockets, err error) {
	defer func() {
		if err != nil {
			opened.close()
		}
	}()
	paths := []string{s.socket}
	if s.managed() {
		paths = []string{s.onHost(s.socket), s.socket}
	}
	for _, path := range paths {
		listener, err := plugin.Listen(ctx, path)
		if err != nil {
			return opened, err
		}
		opened.docker = append(opened.docker, listener)
	}
	if s.agentSocket == defaultAgentSocket {
		opened.folder = s.onHost(filepath.Dir(s.agentSocket))
	}
	if opened.agent, err = plugin.Listen(ctx, s.onHost(s.agentSocket)); err != nil {
		return opened, err
	}
	opened.host, err = claimHost(s.runDir)
	return opened, err
}

// close leaves nothing behind.
func (s sockets) close() {
	for _, listener := range append(s.docker, s.agent) {
		if listener != nil {
			_ = listener.Close()
		}
	}
	if s.host != nil {
		_ = releaseHost(s.host)
	}
	if s.folder != "" {
		_ = os.Remove(s.folder) // only an empty one goes
	}
}
