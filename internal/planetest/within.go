package planetest

import (
	"bytes"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// Within runs f in ns: sockets that it opens and processes that it starts are there.
func Within(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() { // a goroutine of its own: if it can't go home, its thread ends with it
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			result <- err
			return
		}
		defer home.Close()
		if err = netns.Set(ns); err == nil {
			err = f()
		}
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	must(t, <-result)
}

// Output runs a command in ns and returns what it says, errors included.
func Output(t *testing.T, ns netns.NsHandle, name string, args ...string) (string, error) {
	t.Helper()
	command, out := start(t, ns, name, args...)
	err := command.Wait()
	return out.String(), err
}

// start begins a command in ns; out is complete when it has ended.
func start(t *testing.T, ns netns.NsHandle, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), name, args...)
	command.Stdout, command.Stderr = &out, &out
	Within(t, ns, command.Start)
	return command, &out
}
