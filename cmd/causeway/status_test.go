package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// The commands ask the agent that the environment names.
func TestCommandsReadTheEnvironment(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	t.Setenv("CAUSEWAY_AGENT_SOCKET", socket)
	for _, args := range [][]string{{"status"}, {"hosts", "rm", "h9"}} {
		command := rootCommand()
		command.SetArgs(args)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), socket) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
