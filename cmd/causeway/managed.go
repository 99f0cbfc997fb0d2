package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hostRun is where a host has sockets and the names of namespaces.
const hostRun = "/run"

// managed says that this is Docker's managed plugin: it runs in a root file
// system of its own and sees the host's /run elsewhere.
func (s *settings) managed() bool { return filepath.Clean(s.runDir) != hostRun }

// onHost gives the path under which this process sees the host's path.
func (s *settings) onHost(path string) string {
	if rest, ok := strings.CutPrefix(path, hostRun+"/"); ok {
		return filepath.Join(s.runDir, rest)
	}
	return path
}

// prepare has what the data planes write to be writable.
func prepare(s settings) error {
	if err := checkPrivileges(); err != nil || !s.managed() {
		return err
	}
	return unlockSettings()
}

// unlockSettings makes /proc/sys writable, which engines bind read-only over
// itself for whatever they run.
func unlockSettings() error {
	const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("", "/proc/sys", "", flags, ""); err != nil {
		return fmt.Errorf("make /proc/sys writable: %w", err)
	}
	return nil
}
