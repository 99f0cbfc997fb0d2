package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/mirror/engine"
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

// pluginName is what this managed plugin can be installed by on another host; empty for
// a binary, and where the engine does not say.
func (s *settings) pluginName(ctx context.Context) string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !s.managed() || !s.mirrors() {
		return ""
	}
	client, err := engine.Open(s.onHost(s.docker))
	if err != nil {
		return ""
	}
	defer client.Close()
	// The engine mounts folders into the plugin that it names by its ID.
	name, err := client.PluginName(ctx, func(id string) bool { return id != "" && strings.Contains(string(mounts), "/plugins/"+id) })
	if err != nil {
		return ""
	}
	return name
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
