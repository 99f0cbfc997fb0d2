package planetest

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
)

// Within runs f in ns: sockets that it opens and processes that it starts are there.
func Within(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	must(t, nl.Do(ns, f))
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
